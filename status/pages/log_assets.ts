/**
 * What the log viewer needs of the pages' one style and one script: constants that assets.ts puts in. Must not know how
 * windows of logs are had.
 */

export const LOG_STYLE = `/* log */
.logbar,.logbar form{display:flex;flex-wrap:wrap;gap:.4rem 1.25rem;align-items:center}.logbar form{gap:.4rem;flex-wrap:nowrap}
.logbar{position:sticky;top:0;background:var(--bg);padding:.4rem 0;z-index:1}.logbar .pager{margin:0}
.log{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.4rem 0;font-family:var(--mono);
font-size:.82rem;line-height:1.25rem;tab-size:8}
.log>div{display:flex;min-height:1.5rem;padding:.125rem .75rem .125rem 0;scroll-margin-top:4rem}
.log>div>a{flex:none;min-width:4.25rem;min-height:24px;margin:-.125rem 0;padding:.125rem .75rem 0 .5rem;text-align:right;color:var(--muted);
text-decoration:none;user-select:none}.log>div>a:hover{text-decoration:underline}
.log code{flex:1;min-width:0;white-space:pre-wrap;overflow-wrap:anywhere;font:inherit}.log i{color:var(--muted)}
.nowrap{overflow-x:auto}.nowrap>div{width:max-content;min-width:100%}.nowrap code{white-space:pre}
.log .hit,.log :target{background:var(--warn-bg)}mark{background:#ffe08a;color:#1b2026}
.log{--magenta:#8a2a8f;--cyan:#0b6672}@media(prefers-color-scheme:dark){.log{--magenta:#e59cf0;--cyan:#6fd3dd}}
.a1{color:var(--bad)}.a2{color:var(--good)}.a3{color:var(--warn)}.a4{color:var(--link)}.a5{color:var(--magenta)}
.a6{color:var(--cyan)}.a8{color:var(--muted)}.k1{background:var(--bad)}.k2{background:var(--good)}.k3{background:var(--warn)}
.k4{background:var(--link)}.k5{background:var(--magenta)}.k6{background:var(--cyan)}.k7{background:var(--text)}
.k8{background:var(--muted)}.log [class*=k]{color:var(--card)}
.tb{font-weight:700}.ti{font-style:italic}.tu{text-decoration:underline}.ts{text-decoration:line-through}
.tu.ts{text-decoration:underline line-through}#end{scroll-margin-bottom:1rem}
@media(max-height:30rem){.logbar{position:static}}
@media(max-width:40rem){.logbar{position:static}.log>div>a{min-width:3rem;padding-right:.5rem}.log>div{padding-right:.4rem}}
`;

/**
 * Unbroken lines, the address of a line without leaving its window, and a log that grows: asked for again every half
 * second while it does, seldom while it does not, and not at all while one reads further up.
 */
export const LOG_SCRIPT = `(() => {
  const log = document.getElementById("log-lines");
  if (!log) return;
  // On a run's page: the last lines, which do not move the page.
  const most = Number(log.dataset.most) || 0;
  let whole = true;
  try { whole = localStorage.getItem("log-lines") !== "unbroken"; } catch { /* not allowed here */ }
  const wrap = () => {
    log.classList.toggle("nowrap", !whole);
    for (const link of document.querySelectorAll(".log-wrap")) {
      link.textContent = whole ? "Do not break long lines" : "Break long lines";
    }
  };
  if (location.search.includes("wrap=off")) whole = false;
  wrap();
  document.addEventListener("click", (event) => {
    if (most || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target.closest("a");
    if (!link) return;
    if (link.className === "log-wrap") {
      event.preventDefault();
      whole = !whole;
      try { localStorage.setItem("log-lines", whole ? "broken" : "unbroken"); } catch { /* for this page only */ }
      wrap();
    } else if (link.parentElement.parentElement === log) {
      // The address of a line, without leaving this window of the log.
      event.preventDefault();
      const url = new URL(link.href);
      const number = /^#L(\\d+)$/.exec(url.hash);
      if (number) {
        const asked = url.searchParams;
        for (const name of [...asked.keys()]) if (name !== "part" && name !== "wrap") asked.delete(name);
        asked.set("line", number[1]);
      }
      history.replaceState(null, "", url);
      for (const line of log.querySelectorAll(".hit")) line.classList.remove("hit");
      link.parentElement.classList.add("hit");
    }
  });
  const isAtEnd = () => scrollY + innerHeight >= document.documentElement.scrollHeight - 60;
  const toEnd = () => most || scrollTo(scrollX, document.documentElement.scrollHeight);
  const hit = log.querySelector(".hit");
  if (hit) hit.scrollIntoView({ block: "center" });
  else if (!location.hash && !/[?&](from|to|next|previous)=/.test(location.search)) toEnd();
  const note = document.getElementById("log-follow");
  if (!most && !note || log.dataset.next === undefined) return;
  const say = (text) => { if (note && note.textContent !== text) note.textContent = text; };
  const step = async () => {
    const url = new URL(log.dataset.log || location.pathname, location.href);
    const asked = new URLSearchParams(location.search);
    const part = asked.get("part") || log.dataset.part;
    if (part) url.searchParams.set("part", part);
    if (asked.has("wrap")) url.searchParams.set("wrap", "off");
    url.searchParams.set("from", log.dataset.next);
    url.searchParams.set("only", "lines");
    const response = await fetch(url);
    if (!response.ok) return false;
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("log-lines");
    if (!fresh || fresh.dataset.from === undefined) return false;
    const [before, from] = [Number(log.dataset.next), Number(fresh.dataset.from)];
    // A line that has no end yet comes again.
    const open = log.dataset.open === undefined || !log.lastElementChild ? "" : log.lastElementChild.outerHTML;
    const grew = fresh.dataset.next !== log.dataset.next || fresh.innerHTML !== open;
    if (grew) {
      if (from > before) log.replaceChildren();
      else if (open) log.lastElementChild.remove();
      for (const line of [...fresh.children]) {
        if (most && !line.lastElementChild.textContent.trim()) continue;
        const link = line.firstElementChild;
        if (most) link.setAttribute("href", log.dataset.log + link.getAttribute("href"));
        log.append(line);
      }
      while (log.childElementCount > (most || 5000)) log.firstElementChild.remove();
      toEnd();
    }
    for (const name of ["next", "open", "part"]) {
      if (fresh.dataset[name] === undefined) delete log.dataset[name];
      else log.dataset[name] = fresh.dataset[name];
    }
    return grew;
  };
  let paused = false;
  addEventListener("scroll", () => {
    if (most || log.dataset.next === undefined) return;
    paused = !isAtEnd();
    say(paused ? "Paused: go to the end to see what comes" : "New lines show by themselves");
  }, { passive: true });
  (async () => {
    say("New lines show by themselves");
    for (let rest = 500; log.dataset.next !== undefined;) {
      await new Promise((resolve) => setTimeout(resolve, rest));
      if (paused || document.hidden) continue;
      try { rest = await step() ? 500 : Math.min(3000, rest * 1.5); } catch { rest = 3000; }
    }
    say("The run has ended: this is the end of its log");
  })();
})();
`;
