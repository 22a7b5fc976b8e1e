import { parser } from "@lezer/python";
import type { Statement } from "../core/statements.js";

type SyntaxNode = ReturnType<typeof parser.parse>["topNode"];

/** The statements of a Python file, in order. What does not parse is left out. */
export function pythonStatements(text: string): Statement[] {
  const lineOf = lineCounter(text);
  const statements: Statement[] = [];
  const textOf = (node: SyntaxNode): string => text.slice(node.from, node.to);

  const add = (
    node: SyntaxNode,
    end: number,
    kind: Statement["kind"],
    scope: Scope,
    names: Pick<Statement, "reads" | "writes">,
  ): void => {
    const [line, endLine] = [lineOf(node.from), lineOf(end)];
    statements.push({ line, endLine, kind, ...scope, ...names });
  };

  const visit = (node: SyntaxNode, scope: Scope): void => {
    const body = node.getChild("Body");
    const kind = kinds[node.name];
    switch (node.name) {
      case "ClassDefinition": {
        const name = node.getChild("VariableName");
        if (body) visitBody(body, { ...scope, class: name ? textOf(name) : "" });
        return;
      }
      case "FunctionDefinition": {
        const name = node.getChild("VariableName");
        const inner = {
          ...scope,
          function: name ? textOf(name) : "",
          functionLine: lineOf(node.from),
          condition: 0,
          loop: 0,
        };
        const parameters = node.getChild("ParamList");
        if (parameters) visitParameters(parameters, inner);
        if (body) visitBody(body, inner);
        return;
      }
      default:
        if (kind) {
          const end = body ? body.from : node.to;
          add(node, end, kind, scope, namesIn(node, textOf));
        }
        for (let part = node.firstChild; part; part = part.nextSibling) {
          const condition = kind === "condition" ? lineOf(node.from) : scope.condition;
          const loop = kind === "loop" ? lineOf(node.from) : scope.loop;
          if (part.name === "Body") visitBody(part, { ...scope, condition, loop });
          else if (node.name === "DecoratedStatement") visit(part, scope);
        }
    }
  };
  const visitBody = (body: SyntaxNode, scope: Scope): void => {
    for (let part = body.firstChild; part; part = part.nextSibling) visit(part, scope);
  };
  /** Each parameter with a default is a statement: the default is a value that somebody may have got wrong. */
  const visitParameters = (list: SyntaxNode, scope: Scope): void => {
    for (let part = list.firstChild; part; part = part.nextSibling) {
      if (part.name !== "VariableName") continue;
      const writes = [textOf(part)];
      let end = part;
      for (let next = part.nextSibling; next && next.name !== ","; next = next.nextSibling)
        end = next;
      add(part, end.to, "parameter", scope, { reads: [], writes });
    }
  };

  visitBody(parser.parse(text).topNode, {
    class: "",
    function: "<module>",
    functionLine: 0,
    condition: 0,
    loop: 0,
  });
  return statements;
}

type Scope = Pick<Statement, "class" | "function" | "functionLine" | "condition" | "loop">;

const kinds: Readonly<Record<string, Statement["kind"]>> = {
  AssignStatement: "assignment",
  UpdateStatement: "assignment",
  ReturnStatement: "return",
  IfStatement: "condition",
  ForStatement: "loop",
  WhileStatement: "loop",
  ExpressionStatement: "other",
  WithStatement: "other",
  AssertStatement: "other",
};

function namesIn(
  statement: SyntaxNode,
  textOf: (node: SyntaxNode) => string,
): Pick<Statement, "reads" | "writes"> {
  const reads = new Set<string>();
  const writes = new Set<string>();
  const isAssignment = statement.name === "AssignStatement" || statement.name === "UpdateStatement";
  let target = isAssignment || statement.name === "ForStatement";
  const collect = (node: SyntaxNode, into: Set<string>): void => {
    if (node.name === "VariableName") into.add(textOf(node));
    if (node.name === "MemberExpression" && node.firstChild?.name === "VariableName") {
      const attribute = node.getChild("PropertyName");
      if (attribute) into.add(`${textOf(node.firstChild)}.${textOf(attribute)}`);
    }
    for (let part = node.firstChild; part; part = part.nextSibling) {
      // `f(name=value)` names the function's parameter.
      const isKeyword = node.name === "ArgList" && part.nextSibling?.name === "AssignOp";
      if (!isKeyword && part.name !== "PropertyName") collect(part, into);
    }
  };
  for (let part = statement.firstChild; part; part = part.nextSibling) {
    if (part.name === "Body") continue;
    if (["AssignOp", "UpdateOp", "in"].includes(part.name)) target = false;
    else if (part.name !== "TypeDef") collect(part, target ? writes : reads);
  }
  if (statement.name === "UpdateStatement") for (const name of writes) reads.add(name);
  return { reads: [...reads], writes: [...writes] };
}

function lineCounter(text: string): (offset: number) => number {
  const starts = [0];
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) starts.push(at + 1);
  return (offset) => {
    let low = 0;
    let high = starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((starts[middle] as number) <= offset) low = middle;
      else high = middle - 1;
    }
    return low + 1;
  };
}
