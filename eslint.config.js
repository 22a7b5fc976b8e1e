import tseslint from "typescript-eslint";

/** Rules that need no types. */
const everywhere = {
  eqeqeq: "error",
  "max-lines": ["error", { max: 400 }],
  "no-restricted-syntax": [
    "error",
    { selector: "ExportDefaultDeclaration", message: "A named export is found by its name." },
    { selector: "ExportSpecifier[exported.name='default']", message: "A default by another way." },
  ],
  "no-var": "error",
  "prefer-const": "error",
};

export default tseslint.config(
  {
    ignores: ["dist/", "node_modules/", ".cache/", ".code-web/", ".venv/", ".vscode-test/"],
  },
  {
    files: ["**/*.ts"],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: {
      parserOptions: {
        projectService: { allowDefaultProject: ["vitest.config.ts"] },
        tsconfigRootDir: import.meta.dirname,
      },
    },
    rules: {
      ...everywhere,
      "@typescript-eslint/consistent-type-imports": [
        "error",
        { fixStyle: "inline-type-imports", disallowTypeAnnotations: false },
      ],
      "@typescript-eslint/no-explicit-any": "error",
      "@typescript-eslint/no-floating-promises": "error",
      "@typescript-eslint/no-unused-vars": [
        "error",
        { argsIgnorePattern: "^_", varsIgnorePattern: "^_", ignoreRestSiblings: true },
      ],
      "@typescript-eslint/switch-exhaustiveness-check": [
        "error",
        { considerDefaultExhaustiveForUnions: true },
      ],
      // Numbers in texts are the product; what they look like is decided by the functions that format them.
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      // The compiler's own checks (noUncheckedIndexedAccess) are what makes a check or an assertion necessary.
      "@typescript-eslint/no-unnecessary-type-assertion": "off",
      // `"batch" | "head" | string` tells a reader which values there are.
      "@typescript-eslint/no-redundant-type-constituents": "off",
      "@typescript-eslint/require-await": "off",
    },
  },
  {
    files: ["**/*.js", "**/*.mjs"],
    extends: [tseslint.configs.base],
    rules: { ...everywhere, "no-unused-vars": ["error", { argsIgnorePattern: "^_" }] },
  },
  {
    // Tests look into JSON and into objects of foreign types; what comes out of them is compared at once.
    files: ["test/**/*.ts"],
    rules: {
      "max-lines": ["error", { max: 700 }],
      "@typescript-eslint/no-unsafe-assignment": "off",
      "@typescript-eslint/no-unsafe-member-access": "off",
      "@typescript-eslint/unbound-method": "off",
    },
  },
  {
    // Their readers ask for a default export.
    files: ["eslint.config.js", "vitest.config.ts"],
    rules: { "no-restricted-syntax": "off" },
  },
);
