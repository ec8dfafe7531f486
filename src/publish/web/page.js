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
  let stop = null; // ends the fetch under way

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

  async function refresh() {
    if (fetching) {
      again = true;
      return true;
    }
    fetching = true;
    stop = new AbortController();
    const cut = setTimeout(() => stop.abort(), PATIENCE);
    try {
      const answer = await fetch("./", { cache: "no-store", signal: stop.signal });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const text = await answer.text();
      take(new DOMParser().parseFromString(text, "text/html"), Number(answer.headers.get("age") ?? NaN));
      return true;
    } catch {
      return false;
    } finally {
      clearTimeout(cut);
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
    morph(document.body, page.body);
    told(seconds);
    choose();
    if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
    if (x !== scrollX || y !== scrollY) scrollTo(x, y);
    show();
  }

  // Makes `old` what `now` is, and keeps every element that is in both.
  function morph(old, now) {
    if (old.isEqualNode(now) || now.hasAttribute("data-keep")) return;
    for (const { name } of [...old.attributes]) {
      if (!now.hasAttribute(name) && !(name === "open" || name === "aria-current")) old.removeAttribute(name);
    }
    for (const { name, value } of now.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
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

  // The chosen pod is the one that the address ends in.
  function choose() {
    const id = location.hash.slice(1);
    const panel = id ? document.getElementById(id) : null;
    gone.hidden = !id.startsWith("p") || panel !== null;
    for (const link of document.querySelectorAll("a[aria-current]")) link.removeAttribute("aria-current");
    if (!panel) return;
    document.getElementById(`r${id}`)?.querySelector("a")?.setAttribute("aria-current", "true");
    // An element that came only now is not yet the target of the address.
    if (!panel.matches(":target")) location.replace(location.href);
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

  document.addEventListener("visibilitychange", () => {
    // A page that nobody sees costs the agent nothing.
    if (document.hidden) {
      close();
      stop?.abort();
    } else {
      listen();
    }
  });
  addEventListener("hashchange", choose);
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && listen());

  document.addEventListener("keydown", (event) => {
    const id = location.hash.slice(1);
    if (event.key !== "Escape" || !id.startsWith("p") || !document.getElementById(`r${id}`)) return;
    location.hash = `r${id}`;
    document.getElementById(`r${id}`).querySelector("a").focus();
  });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("button.copy");
    if (!button) return;
    const code = button.parentElement.querySelector("code");
    const range = document.createRange();
    range.selectNodeContents(code);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    // Without TLS there is no clipboard but by the old way.
    const copied = navigator.clipboard
      ? await navigator.clipboard.writeText(code.textContent).then(() => true, () => document.execCommand("copy"))
      : document.execCommand("copy");
    announce.textContent = copied ? "Copied." : "Selected; copy it with the keyboard.";
  });

  setInterval(() => {
    if (stream && performance.now() - lastWord > SILENT) {
      enter("lost");
      listen();
    }
    show();
  }, 1000);

  document.documentElement.classList.add("js");
  choose();
  listen();
})();
