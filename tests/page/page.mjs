// The live page in real Chromium, over the built agent's demo: looks, updates, survives a restart, is
// usable by keyboard and by screen reader, and says nothing on the console. `./run` starts it.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import test, { after, before } from "node:test";
import { chromium } from "playwright-core";
import { Agent, hostileAgent } from "./agent.mjs";

const SHOTS = process.env.SHOTS ?? "shots";
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
  "--disable-sync", "--no-first-run",
];

let browser;

before(async () => {
  mkdirSync(SHOTS, { recursive: true });
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
});

after(() => browser?.close());

// Opens a page; what it says on the console, and what its policy refuses, is kept.
async function open(agent, { width = 1280, height = 900, scheme = "light", path = "/", ...more } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, ...more });
  const page = await context.newPage();
  const said = [];
  page.on("console", (message) => said.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => said.push(`error: ${error}`));
  await page.goto(agent.url + path.slice(1));
  return { page, said, close: () => context.close() };
}

// Connected, and with tenants to look at.
const live = async (page) => {
  await page.waitForSelector('#state[data-state="live"]');
  await page.waitForSelector("tr.tenant");
};

// Pictures are to look at: what they show moves on.
async function shoot(page, name, fullPage = true) {
  await page.screenshot({ path: `${SHOTS}/${name}.png`, fullPage });
}

// No serious break of a rule of accessibility.
async function accessible(page) {
  // In a world of its own: the page's policy lets no script in.
  const session = await page.context().newCDPSession(page);
  const { frameTree } = await session.send("Page.getFrameTree");
  const { executionContextId } = await session.send("Page.createIsolatedWorld", { frameId: frameTree.frame.id });
  const run = (expression) =>
    session.send("Runtime.evaluate", { expression, contextId: executionContextId, awaitPromise: true, returnByValue: true });
  await run(AXE);
  const { result } = await run(
    `axe.run(document, { resultTypes: ["violations"] }).then((found) => found.violations.map(
      (it) => it.id + ": " + it.nodes.slice(0, 3).map((node) => node.html.slice(0, 160) + " " + node.failureSummary).join(" | ")))`,
  );
  assert.deepEqual(result.value, []);
}

async function noSidewaysScroll(page) {
  const [wide, view] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide <= view, `${wide} px wide in a view of ${view}`);
}

for (const scheme of ["light", "dark"]) {
  for (const [device, width, height] of [["desktop", 1280, 900], ["phone", 320, 640]]) {
    test(`loads on a ${device} in ${scheme}, and updates by itself`, async () => {
      const agent = await Agent.start("noisy-neighbour");
      const { page, said, close } = await open(agent, { width, height, scheme });
      await live(page);
      const at = await page.getAttribute("body", "data-at");
      await page.waitForFunction((at) => document.body.dataset.at !== at, at);
      await page.waitForFunction(() => document.querySelectorAll(".tenant .spark path").length >= 8);
      await noSidewaysScroll(page);
      await accessible(page);
      await shoot(page, `noisy-neighbour-${device}-${scheme}`);
      assert.deepEqual(said, []);
      await close();
      await agent.stop();
    });
  }
}

test("a pod is chosen by keyboard, stays chosen, and is let go", async () => {
  const agent = await Agent.start("noisy-neighbour");
  const { page, said, close } = await open(agent);
  await live(page);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the GPUs");
  const link = page.locator(".tenant a").nth(1);
  for (let steps = 0; !(await link.evaluate((it) => it === document.activeElement)); steps += 1) {
    assert.ok(steps < 30, "the second pod cannot be reached with Tab");
    await page.keyboard.press("Tab");
  }
  const outline = await link.evaluate((it) => getComputedStyle(it).outlineStyle);
  assert.notEqual(outline, "none", "focus is seen");
  const pod = await link.textContent();
  await page.keyboard.press("Enter");
  const panel = page.getByRole("region", { name: pod });
  await panel.waitFor();
  await panel.getByRole("img", { name: /Neighbours that .* waits for/ }).waitFor();
  assert.match(new URL(page.url()).hash, /^#p[0-9a-f]{16}$/);
  await page.locator("#findings").scrollIntoViewIfNeeded();

  // Opened by the reader, with the address, scroll and focus: all outlive two updates.
  await page.locator(".findings details summary").first().click();
  await link.focus();
  await page.evaluate(() => scrollTo(0, 200));
  for (let updates = 0; updates < 2; updates += 1) {
    const at = await page.getAttribute("body", "data-at");
    await page.waitForFunction((at) => document.body.dataset.at !== at, at);
  }
  assert.ok(await panel.isVisible());
  assert.ok(await page.locator(".findings details").first().evaluate((it) => it.open));
  assert.equal(await page.evaluate(() => document.activeElement.textContent), pod);
  assert.equal(await page.evaluate(() => scrollY), 200);
  await accessible(page);
  await shoot(page, "noisy-neighbour-chosen");

  // The address alone chooses it again.
  const again = await open(agent, { path: `/${new URL(page.url()).hash}` });
  await again.page.getByRole("region", { name: pod }).waitFor();
  await again.close();

  await page.keyboard.press("Escape");
  await panel.waitFor({ state: "detached" });
  assert.equal(await page.evaluate(() => document.activeElement.textContent), pod);
  assert.deepEqual(said, []);
  await close();
  await agent.stop();
});

test("without a script the page is whole, and a pod has a page of its own", async () => {
  const agent = await Agent.start("noisy-neighbour");
  const { page, said, close } = await open(agent, { javaScriptEnabled: false });
  await page.locator(".tenant a").first().click();
  await page.locator(".panel h3").waitFor();
  await shoot(page, "noisy-neighbour-pod-without-script");
  await page.getByRole("link", { name: "All of GPU 0" }).click();
  await page.locator(".tenants").waitFor();
  assert.deepEqual(said, []);
  await close();
  await agent.stop();
});

test("says that the agent is gone, and recovers when it is back", async () => {
  let agent = await Agent.start("memory-hog");
  const { page, close } = await open(agent);
  await live(page);
  const { port } = agent;
  await agent.stop();
  await page.waitForSelector('#state[data-state="lost"]');
  assert.match(await page.textContent("#state"), /connection lost · updated \d+ s ago/);
  assert.match(await page.textContent("#announce"), /lost/);
  assert.ok(await page.locator(".tenant").count(), "what was seen stays");
  await shoot(page, "memory-hog-lost", false);
  agent = await Agent.start("memory-hog", port);
  await live(page);
  const at = await page.getAttribute("body", "data-at");
  await page.waitForFunction((at) => document.body.dataset.at !== at, at);
  assert.match(await page.textContent("#announce"), /again/);
  await close();
  await agent.stop();
});

test("64 pods on each of 8 GPUs are legible", async () => {
  const agent = await Agent.start("many-pods");
  const { page, said, close } = await open(agent, { scheme: "dark" });
  await live(page);
  assert.equal(await page.locator(".gpu").first().locator("tr.tenant").count(), 64);
  assert.equal(await page.getByRole("navigation", { name: "GPUs" }).getByRole("link").count(), 8);
  await noSidewaysScroll(page);
  await shoot(page, "many-pods", false);
  await page.locator(".gpu").first().scrollIntoViewIfNeeded();
  await page.evaluate(() => document.querySelector(".gpu").scrollIntoView());
  await shoot(page, "many-pods-gpu", false);
  const took = await page.evaluate(async () => {
    const began = performance.now();
    await (await fetch("./")).text();
    return performance.now() - began;
  });
  assert.ok(took < 5000, `a page of 512 pods took ${took} ms`);
  assert.deepEqual(said, []);
  await close();
  await agent.stop();
});

for (const scenario of ["mig", "mps", "faults", "quiet"]) {
  test(`shows ${scenario}`, async () => {
    const agent = await Agent.start(scenario);
    for (const [device, width, scheme] of [["desktop", 1280, "dark"], ["phone", 320, "light"]]) {
      const { page, said, close } = await open(agent, { width, scheme });
      await live(page);
      await page.waitForTimeout(3000);
      await noSidewaysScroll(page);
      await accessible(page);
      await shoot(page, `${scenario}-${device}`);
      assert.deepEqual(said, []);
      await close();
    }
    await agent.stop();
  });
}

test("landmarks, headings and tables have names for who does not see", async () => {
  const agent = await Agent.start("faults");
  const { page, close } = await open(agent);
  await live(page);
  for (const role of ["banner", "main", "navigation", "contentinfo"]) {
    assert.equal(await page.getByRole(role).count(), 1, role);
  }
  await page.getByRole("heading", { level: 1, name: "simulated" }).waitFor();
  assert.equal(await page.getByRole("heading", { level: 2, name: /^GPU \d/ }).count(), 2);
  const table = page.getByRole("table", { name: /Containers on GPU 0/ });
  assert.deepEqual(await table.getByRole("columnheader").allTextContents(), [
    "Pod", "Memory against fair share", "Share of time", "Slows others by", "Waits for others", "15 min of its time",
  ]);
  assert.ok((await table.getByRole("rowheader").count()) > 3);
  for (const name of [/^Memory of GPU 0 by pod/, /^Used memory of GPU 0/, /^Share of GPU 0/, /^Delay of the canary/]) {
    assert.ok(await page.getByRole("img", { name }).count(), String(name));
  }
  assert.equal(await page.locator("[aria-live], [role=status]").count(), 1, "one place speaks, and seldom");
  await close();
  await agent.stop();
});

test("hostile names are text, and nothing of them runs", async () => {
  const agent = await hostileAgent();
  for (const width of [1280, 320]) {
    const { page, said, close } = await open(agent, { width });
    await live(page);
    assert.equal(await page.locator(".tenant b, .panel b").count(), 0);
    const names = await page.locator(".tenant a").allTextContents();
    assert.ok(names.includes('we"ird\\\\n<b>🦀'), names.join(" "));
    assert.ok(names.some((name) => name.length === 253));
    await noSidewaysScroll(page);
    await accessible(page);
    await page.locator(".tenant a").last().click();
    await page.locator(".panel").waitFor();
    await noSidewaysScroll(page);
    await shoot(page, `hostile-${width}`);
    assert.deepEqual(said, []);
    await close();
  }
  await agent.stop();
});

test("the seventeenth page is told so, and is not forgotten", async () => {
  const agent = await Agent.start("quiet");
  const streams = [];
  for (let count = 0; count < 16; count += 1) streams.push(await agent.stream());
  assert.ok(streams.every((stream) => stream.status === 200));
  const late = await agent.stream();
  assert.equal(late.status, 503);
  assert.equal(late.headers.get("retry-after"), "5");
  const { page, close } = await open(agent);
  await page.waitForSelector('#state[data-state="slow"]');
  assert.match(await page.textContent("#state"), /many pages are open/);
  for (const stream of streams) await stream.body.cancel();
  await close();
  await agent.stop();
});
