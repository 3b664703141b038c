// Print what AsyncAPI's parser says of each document, as JSON: its topics; severity (0 is an error), message and path.
const { readFileSync } = require("node:fs");
const { Parser } = require("@asyncapi/parser");

async function told(file) {
  const { document, diagnostics } = await new Parser().parse(readFileSync(file, "utf8"), { source: file });
  return {
    channels: document ? document.channels().all().map((channel) => channel.address()) : [],
    diagnostics: diagnostics.map(({ severity, message, path }) => ({ severity, message, path: path.join(".") })),
  };
}

Promise.all(process.argv.slice(2).map(told)).then((all) => console.log(JSON.stringify(all)));
