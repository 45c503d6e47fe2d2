// Channels of @grpc/grpc-js as it comes, each with its first call so long after its connection; a JSON line is how one
// ended.

const grpc = require("@grpc/grpc-js");

const [address, count, first, last] = process.argv.slice(2);
const same = (bytes) => bytes;
for (let number = 0; number < count; number += 1) {
  // Otherwise channels to one address share a connection.
  const options = { "grpc.use_local_subchannel_pool": 1 };
  const client = new grpc.Client(address, grpc.credentials.createInsecure(), options);
  const deadline = Date.now() + 60_000;
  client.waitForReady(deadline, (error) => {
    if (error) throw error;
    const pause = Number(first) + ((last - first) * number) / count;
    setTimeout(() => {
      const metadata = new grpc.Metadata();
      const path = "/grpc.health.v1.Health/Check";
      client.makeUnaryRequest(path, same, same, Buffer.alloc(0), metadata, { deadline }, (refused) => {
        console.log(JSON.stringify({
          code: refused?.code ?? grpc.status.OK,
          message: refused?.details ?? "",
        }));
        client.close();
      });
    }, pause * 1000);
  });
}
