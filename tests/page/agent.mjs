// Agents for the page to look at: the built program's demo, and one whose names are hostile.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, request } from "node:http";
import { createServer as listen } from "node:net";

const PROGRAM = process.env.SLICEWATCH ?? "../../target/release/slicewatch";

async function freePort() {
  const server = listen().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

export class Agent {
  static async start(scenario, port) {
    const agent = new Agent();
    agent.port = port ?? (await freePort());
    agent.url = `http://127.0.0.1:${agent.port}/`;
    const speed = scenario === "many-pods" ? "5" : "20";
    agent.child = spawn(PROGRAM, ["demo", "--scenario", scenario, "--speed", speed, "--listen", `127.0.0.1:${agent.port}`], {
      stdio: ["ignore", "ignore", "ignore"],
    });
    agent.ended = once(agent.child, "exit");
    for (let tries = 0; ; tries += 1) {
      const answer = await fetch(`${agent.url}-/ready`).catch(() => null);
      if (answer?.ok) break;
      if (tries > 200 || agent.child.exitCode !== null) throw new Error(`${PROGRAM} does not get ready on ${agent.url}`);
      await new Promise((done) => setTimeout(done, 50));
    }
    return agent;
  }

  stream() {
    return fetch(`${this.url}live`);
  }

  async stop() {
    this.child.kill("SIGTERM");
    await this.ended;
  }
}

// Kubernetes takes no such names, and the agent believes no API server: the page of a demo, its pods'
// names exchanged on the way, as the agent itself escapes them.
const NAMES = [
  '<img src=x onerror="pwned=1">',
  "</small></th><script>pwned=1</script>",
  "\" onmouseover='pwned=1' x=\"",
  "x".repeat(253),
];
const escaped = (name) =>
  name.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;").replaceAll("'", "&#39;");

export async function hostileAgent() {
  const agent = await Agent.start("noisy-neighbour");
  const pods = ["finetune-0", /batch-scorer-[a-z0-9]+-[a-z0-9]+/g, /search-api-[a-z0-9]+-[a-z0-9]+/g, /assistant-api-[a-z0-9]+-[a-z0-9]+/g];
  const proxy = createServer((asked, answer) => {
    const { "accept-encoding": _, ...headers } = asked.headers;
    const onward = request(agent.url + asked.url.slice(1), { headers }, async (reply) => {
      const html = reply.headers["content-type"]?.startsWith("text/html");
      if (!html) {
        answer.writeHead(reply.statusCode, reply.headers);
        return reply.pipe(answer);
      }
      let text = Buffer.concat(await reply.toArray()).toString();
      for (const [index, pod] of pods.entries()) text = text.replaceAll(pod, () => escaped(NAMES[index]));
      const { "content-length": length, ...others } = reply.headers;
      answer.writeHead(reply.statusCode, others);
      answer.end(text);
    });
    onward.on("error", () => answer.destroy());
    answer.on("close", () => onward.destroy());
    onward.end();
  }).listen(0, "127.0.0.1");
  await once(proxy, "listening");
  return {
    url: `http://127.0.0.1:${proxy.address().port}/`,
    async stop() {
      proxy.closeAllConnections();
      proxy.close();
      await agent.stop();
    },
  };
}
