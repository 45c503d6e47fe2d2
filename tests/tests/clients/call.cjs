// Calls with @grpc/grpc-js as it comes: a JSON line in is a call, begun at once; a JSON line out is how it ended.
// CommonJS, since modules are not looked for where NODE_PATH says.

const grpc = require("@grpc/grpc-js");

const GZIP = 2;
const [address, encoding] = process.argv.slice(2);
const client = new grpc.Client(
  address,
  grpc.credentials.createInsecure(),
  encoding === "gzip" ? { "grpc.default_compression_algorithm": GZIP } : {},
);

const lines = require("node:readline").createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const call = JSON.parse(line);
  const metadata = new grpc.Metadata();
  for (const [key, value] of Object.entries(call.metadata)) metadata.set(key, value);
  const deadline = Date.now() + call.timeout * 1000;
  const same = (bytes) => bytes;
  const end = (error, answer) => {
    const [details] = error?.metadata?.get("grpc-status-details-bin") ?? [];
    console.log(JSON.stringify({
      id: call.id,
      code: error?.code ?? grpc.status.OK,
      message: error?.details ?? "",
      details: details?.toString("hex") ?? "",
      answer: answer?.toString("hex") ?? "",
    }));
  };
  client.makeUnaryRequest(call.path, same, same, Buffer.from(call.message, "hex"), metadata, { deadline }, end);
});
lines.on("close", () => process.exit());
