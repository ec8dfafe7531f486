"use strict";
// Keeps the page as new as the agent: listens for new snapshots, fetches the same page again and takes
// over what differs, so that scroll, focus, open details and the chosen pod stay.
(() => {
  const SLOW = 15000; // between two fetches where there is no stream
  const AGAIN = 60000; // until a stream is asked for again
  const PATIENCE = 10000; // of one fetch
  const SILENT = 25000; // a stream that says nothing for so long is dead

  const state = document.getElementById("state");
  const announce = document.getElementById("announce");
  const gone = document.getElementById("gone");

  let mode = "still"; // still, live, slow, lost
  let age = 0; // of the snapshot when it was heard of, in seconds
  let heard = performance.now();
  let stream = null;
  let timer = 0;
  let streamTimer = 0;
  let lastWord = 0;
  let fetching = false;
  let again = false;
  let details = null; // the line that shows the chosen pod

  const WORDS = { live: "", slow: "slow updates: many pages are open · ", lost: "connection lost · " };

  function enter(next) {
    const was = mode;
    mode = next;
    document.documentElement.dataset.mode = next;
    if (next === "lost" && was !== "lost") announce.textContent = "Connection to the agent lost. Figures are old.";
    if (was === "lost" && next !== "lost") announce.textContent = "Connected to the agent again.";
    show();
  }

  function show() {
    const seconds = Math.max(0, Math.round(age + (performance.now() - heard) / 1000));
    const stuck = mode !== "lost" && seconds > 30;
    const fresh = document.body.dataset.at
      ? `updated ${seconds < 120 ? `${seconds} s` : `${Math.floor(seconds / 60)} min`} ago`
      : "no snapshot yet";
    state.dataset.state = stuck ? "stuck" : mode;
    state.lastElementChild.textContent = `${stuck ? "the agent makes no new snapshots · " : WORDS[mode] ?? ""}${fresh}`;
    state.title = document.body.dataset.at ? `Snapshot of ${document.body.dataset.at}` : "";
  }

  function told(seconds) {
    if (!Number.isFinite(seconds)) return;
    age = seconds;
    heard = performance.now();
  }

  // A page of the agent, or null where what was asked for is not there. Throws without an answer.
  async function get(address) {
    const answer = await fetch(address, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (answer.status === 404) return null;
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    return { page, age: Number(answer.headers.get("age") ?? NaN) };
  }

  async function refresh() {
    if (fetching) {
      again = true;
      return true;
    }
    fetching = true;
    try {
      const answer = await get(location.pathname + location.search);
      if (answer) take(answer.page, answer.age);
      gone.hidden = answer !== null;
      await choose();
      return true;
    } catch {
      return false;
    } finally {
      fetching = false;
      if (again) {
        again = false;
        refresh();
      }
    }
  }

  function take(page, seconds) {
    const { version, at } = page.body.dataset;
    if (version !== document.body.dataset.version) return location.reload();
    // An agent that has just started knows less than what is shown.
    if (!at && document.body.dataset.at) return;
    const focused = document.activeElement;
    const [x, y] = [scrollX, scrollY];
    document.title = page.title;
    const line = details?.previousElementSibling?.id;
    details?.remove();
    morph(document.body, page.body);
    if (line) document.getElementById(line)?.after(details);
    told(seconds);
    if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
    if (x !== scrollX || y !== scrollY) scrollTo({ left: x, top: y, behavior: "instant" });
    show();
  }

  // What the reader has changed.
  const KEPT = new Set(["open", "aria-expanded"]);

  // Makes `old` what `now` is, and keeps every element that is in both.
  function morph(old, now) {
    if (old.isEqualNode(now) || now.hasAttribute("data-keep")) return;
    for (const { name } of [...old.attributes]) {
      if (!now.hasAttribute(name) && !KEPT.has(name)) old.removeAttribute(name);
    }
    for (const { name, value } of now.attributes) {
      if (old.getAttribute(name) !== value && !KEPT.has(name)) old.setAttribute(name, value);
    }
    const named = new Map();
    for (const child of old.children) if (child.id) named.set(child.id, child);
    let at = old.firstChild;
    for (const want of [...now.childNodes]) {
      const have = want.id ? named.get(want.id) : at;
      const same = have && have.nodeName === want.nodeName && (have.id ?? "") === (want.id ?? "");
      if (!same) {
        old.insertBefore(document.importNode(want, true), at);
        continue;
      }
      if (have === at) at = at.nextSibling;
      else old.insertBefore(have, at);
      if (have.nodeType === Node.ELEMENT_NODE) morph(have, want);
      else if (have.nodeValue !== want.nodeValue) have.nodeValue = want.nodeValue;
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  }

  // Shows the chosen pod below its line. It is the one that the address ends in.
  async function choose() {
    const id = location.hash.startsWith("#p") ? location.hash.slice(1) : "";
    const line = document.getElementById(`r${id}`);
    for (const link of document.querySelectorAll("a[aria-expanded]")) link.removeAttribute("aria-expanded");
    if (id) gone.hidden = line !== null;
    if (!id || !line) {
      details?.remove();
      details = null;
      return;
    }
    line.querySelector("a").setAttribute("aria-expanded", "true");
    const answer = await get(`pod?id=${id}`);
    const panel = answer?.page.querySelector(".panel");
    if (!panel || location.hash !== `#${id}` || !line.isConnected) return;
    if (details?.dataset.pod !== id) {
      details?.remove();
      details = document.getElementById("details").content.firstElementChild.cloneNode(true);
      details.dataset.pod = id;
      details.querySelector("td").append(document.importNode(panel, true));
      announce.textContent = `Details of ${panel.getAttribute("aria-label")} are below its line.`;
    } else {
      morph(details.querySelector(".panel"), panel);
    }
    if (line.nextElementSibling !== details) line.after(details);
  }

  // Another pod, or none.
  function choosePod(id) {
    const before = details?.dataset.pod;
    history.pushState(null, "", id ? `#${id}` : location.pathname);
    choose().catch(() => {});
    if (!id) document.getElementById(`r${before}`)?.querySelector("a").focus({ preventScroll: true });
  }

  function listen() {
    close();
    if (document.hidden) return;
    stream = new EventSource("live");
    lastWord = performance.now();
    const word = (event) => {
      lastWord = performance.now();
      told(Number(event.data));
      clearTimeout(timer);
      enter("live");
    };
    stream.addEventListener("snapshot", (event) => {
      word(event);
      refresh();
    });
    stream.addEventListener("still", word);
    stream.addEventListener("error", () => {
      // A stream that was refused does not come back by itself.
      if (stream?.readyState === EventSource.CLOSED) withoutStream();
      else enter("lost");
    });
  }

  function withoutStream() {
    close();
    streamTimer = setTimeout(listen, AGAIN);
    poll();
  }

  async function poll() {
    clearTimeout(timer);
    const well = await refresh();
    if (stream || document.hidden) return;
    enter(well ? "slow" : "lost");
    timer = setTimeout(poll, well ? SLOW : SLOW / 3);
  }

  function close() {
    stream?.close();
    stream = null;
    clearTimeout(timer);
    clearTimeout(streamTimer);
  }

  async function copy(code) {
    const range = document.createRange();
    range.selectNodeContents(code);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    // Without TLS there is no clipboard but by the old way.
    const old = () => document.execCommand("copy");
    const done = navigator.clipboard
      ? await navigator.clipboard.writeText(code.textContent).then(() => true, old)
      : old();
    announce.textContent = done ? "Copied." : "Selected; copy it with the keyboard.";
  }

  document.addEventListener("visibilitychange", () => {
    // A page that nobody sees costs the agent nothing.
    if (document.hidden) close();
    else listen();
  });
  addEventListener("popstate", () => choose().catch(() => {}));
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && listen());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && details) choosePod("");
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    const link = event.target.closest("a[data-pod]");
    if (button?.matches(".copy")) copy(button.parentElement.querySelector("code"));
    else if (button?.matches(".close")) choosePod("");
    else if (link && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey)) {
      event.preventDefault();
      choosePod(link.dataset.pod === details?.dataset.pod ? "" : link.dataset.pod);
    }
  });

  setInterval(() => {
    if (stream && performance.now() - lastWord > SILENT) {
      enter("lost");
      listen();
    }
    show();
  }, 1000);

  document.documentElement.classList.add("js");
  choose().then(() => details?.previousElementSibling.scrollIntoView(), () => {});
  listen();
})();
