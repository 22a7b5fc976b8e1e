import { nothing } from "lit";
import { Directive, directive, PartType, type PartInfo, type ElementPart } from "lit/directive.js";

/**
 * Sets CSS properties of the element it stands on, as `<div ${cssProperties({ height: "20px" })}>`. A `style` attribute
 * is what the panel's content security policy forbids, and lit's own `styleMap` writes one on its first render; the
 * CSSOM is not concerned.
 */
export const cssProperties = directive(
  class extends Directive {
    constructor(part: PartInfo) {
      super(part);
      if (part.type !== PartType.ELEMENT) throw new Error("cssProperties stands on an element");
    }

    render(_properties: Readonly<Record<string, string>>): typeof nothing {
      return nothing;
    }

    override update(
      part: ElementPart,
      [properties]: [Readonly<Record<string, string>>],
    ): typeof nothing {
      const { style } = part.element as HTMLElement;
      for (const [name, value] of Object.entries(properties)) {
        if (style.getPropertyValue(name) !== value) style.setProperty(name, value);
      }
      return nothing;
    }
  },
);
