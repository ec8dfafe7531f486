// Agents for the page to look at: the built program's demo, and one with hostile names.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as listen } from "node:net";

const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const PROGRAM = process.env.SLICEWATCH ?? "../../target/release/slicewatch";

// No agent outlives the tests.
const running = new Set();
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));
process.on("SIGTERM", () => process.exit(1));

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
    running.add(agent.child);
    agent.ended = once(agent.child, "exit").then(() => running.delete(agent.child));
    for (let tries = 0; ; tries += 1) {
      const answer = await fetch(`${agent.url}-/ready`).catch(() => null);
      if (answer?.ok) break;
      if (tries > 400 || agent.child.exitCode !== null) throw new Error(`${PROGRAM} does not get ready on ${agent.url}`);
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

// What the agent makes of a snapshot with hostile names: Kubernetes takes no such names, so that no
// scenario has them. The Rust tests hold the two files to what the program makes.
export async function hostileAgent() {
  const here = (name) => readFileSync(new URL(name, import.meta.url));
  const html = { "content-type": "text/html; charset=utf-8", "content-security-policy": POLICY };
  const answers = {
    "/": [html, here("hostile.html")],
    "/pod": [html, here("hostile-pod.html")],
    "/page.css": [{ "content-type": "text/css" }, here("../../src/publish/web/page.css")],
    "/page.js": [{ "content-type": "text/javascript" }, here("../../src/publish/web/page.js")],
    "/icon.svg": [{ "content-type": "image/svg+xml" }, here("../../src/publish/web/icon.svg")],
  };
  const server = createServer((asked, answer) => {
    const { pathname } = new URL(asked.url, "http://agent/");
    if (pathname === "/live") {
      answer.writeHead(200, { "content-type": "text/event-stream" });
      return answer.write("event: snapshot\ndata: 0.5\n\n");
    }
    const [headers, body] = answers[pathname] ?? [{}, null];
    answer.writeHead(body ? 200 : 404, headers);
    return answer.end(body);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    stop: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
