/**
 * The one style and the one script of the pages, and the policy that lets a browser use these two and nothing else.
 * Constants only; the pages are laid out beside this.
 */
import { createHash } from "node:crypto";

export const STYLE = `
:root{color-scheme:light dark;--bg:#fbfcfd;--card:#fff;--text:#1b1f24;--muted:#535c66;--line:#d3d9e0;--link:#0b5cad;
--bad:#a4161a;--good:#1a6b34;--warn:#7a4b00;--focus:#0b5cad;--node:#eef3f9;--end:#f3eefb}
@media(prefers-color-scheme:dark){:root{--bg:#14171a;--card:#1b1f24;--text:#e6e9ec;--muted:#a9b3bd;--line:#3a424b;
--link:#7cb8ff;--bad:#ff9a92;--good:#7ddb98;--warn:#f0c06a;--focus:#7cb8ff;--node:#222b35;--end:#2b2536}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--text);font:16px/1.5 system-ui,sans-serif}
header,main,footer{max-width:80rem;margin:0 auto;padding:0 1rem}
header{padding-top:1rem}
h1{font-size:1.5rem;margin:0;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:0 0 .6rem}
nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:.25rem 1rem;margin:.25rem 0;padding:0}
a{color:var(--link)}
a:focus-visible,button:focus-visible,input:focus-visible,select:focus-visible,textarea:focus-visible,
summary:focus-visible,[tabindex]:focus-visible{outline:3px solid var(--focus);outline-offset:2px}
.skip{position:absolute;left:-100rem}
.skip:focus{left:1rem;top:.5rem;background:var(--card);padding:.5rem}
section{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:1rem;margin:1rem 0}
.scroll{overflow:auto;max-height:36rem}
table{border-collapse:collapse;width:100%;font-size:.9rem}
caption{text-align:left;color:var(--muted);padding-bottom:.25rem}
th,td{text-align:left;vertical-align:top;padding:.35rem .75rem .35rem 0;border-bottom:1px solid var(--line)}
td{overflow-wrap:break-word;min-width:5rem}code,a{overflow-wrap:anywhere}td:last-child{min-width:9rem}
th{white-space:nowrap}
code,pre,.mono{font-family:ui-monospace,"DejaVu Sans Mono",monospace;font-size:.85rem}
pre{margin:0;padding:.75rem;border:1px solid var(--line);border-radius:.25rem;white-space:pre-wrap;overflow-wrap:anywhere;
max-height:32rem;overflow:auto}
dl{display:grid;grid-template-columns:11rem 1fr;gap:.25rem 1rem;margin:0}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
dl+dl{margin-top:.25rem}
form{display:flex;flex-wrap:wrap;gap:.75rem;align-items:end}
label{display:block;font-size:.85rem;color:var(--muted)}
input,select,textarea,button{font:inherit;color:inherit;background:var(--bg);border:1px solid var(--muted);
border-radius:.25rem;padding:.35rem .5rem;max-width:100%}
textarea{width:24rem;min-height:4.5rem}
button{cursor:pointer;font-weight:600}
.muted{color:var(--muted)}.bad{color:var(--bad);font-weight:600}.good{color:var(--good);font-weight:600}
.warn{color:var(--warn);font-weight:600}
.reason{font-size:1.05rem}#reach{margin:.6rem 0 0}
.strip{display:block;font-family:ui-monospace,"DejaVu Sans Mono",monospace;line-height:1.2;overflow-wrap:anywhere}
td .strip:not(:last-child){display:inline}
.strip .succeeded{color:var(--good)}.strip .failed{color:var(--bad);font-weight:600}.strip .running{color:var(--link)}
svg text{font:12px ui-monospace,"DejaVu Sans Mono",monospace;fill:var(--text)}
svg .mark{fill:var(--bad);font-weight:600}
svg .node{fill:var(--card);stroke:var(--muted)}
svg .topic{fill:var(--node)}svg .end{fill:var(--end)}
svg .odd{stroke:var(--bad);stroke-width:2;stroke-dasharray:5 3}
svg .edge{fill:none;stroke:var(--muted)}svg .fails{stroke-dasharray:4 3}svg .needs{stroke-width:2.5px}svg .tip{fill:var(--muted)}
@media(max-width:40rem){dl{grid-template-columns:1fr}dd{margin-bottom:.4rem}textarea,form>div{width:100%}
input,select{width:100%}}
/* charts */
.plain{color:var(--link)}.chart{margin:0 0 1rem}.chart p{margin:.2rem 0 .4rem}
.chart figcaption,.legend{display:flex;flex-wrap:wrap;gap:.2rem 1rem;align-items:center}
.legend{font-size:.85rem;color:var(--muted)}.legend svg{vertical-align:middle;margin-right:.35rem}
.plot{display:flex}.plot>svg{flex:none;display:block}.plot>svg+svg{flex:1;min-width:0;overflow:visible}
.plot text{font:11px system-ui,sans-serif;fill:var(--muted)}
svg .grid{stroke:var(--line)}svg .chart-bar:not(.bad),svg .dot{fill:currentColor}svg .chart-bar.bad,svg .curve{stroke:currentColor}
svg .chart-bar.warn{fill:none;stroke:currentColor}svg .hatch{stroke:var(--bad);stroke-width:1.5}
svg .curve{fill:none;stroke-width:2}svg .dashed{stroke-width:1.5;stroke-dasharray:5 4}
svg .limit{stroke:var(--bad);stroke-width:1.5;stroke-dasharray:2 3}
svg .hit{fill:var(--text);fill-opacity:0}svg .hit:hover{fill-opacity:.1}
`;

/**
 * Reload of the parts marked `data-live` when the service tells something, and the growing log. Reading needs none
 * of it. Parsed markup runs no script, and the policy would not let it.
 */
export const SCRIPT = `
(() => {
  const note = document.getElementById("live-note");
  const say = (text) => { if (note && note.textContent !== text) note.textContent = text; };
  let due, busy = false;
  const refresh = async () => {
    due = undefined;
    if (busy) return plan();
    busy = true;
    try {
      const response = await fetch(location.href);
      if (!response.ok) return;
      const next = new DOMParser().parseFromString(await response.text(), "text/html");
      for (const part of document.querySelectorAll("[data-live]")) {
        const fresh = next.getElementById(part.id);
        if (!fresh || fresh.innerHTML === part.innerHTML) continue;
        const at = part.contains(document.activeElement) ? document.activeElement : undefined;
        const href = at && at.getAttribute("href");
        const top = part.querySelector(".scroll") ? part.querySelector(".scroll").scrollTop : 0;
        part.replaceWith(fresh);
        if (fresh.querySelector(".scroll")) fresh.querySelector(".scroll").scrollTop = top;
        if (href) {
          for (const link of fresh.querySelectorAll("a")) {
            if (link.getAttribute("href") === href) { link.focus(); break; }
          }
        } else if (at && fresh.querySelector("[tabindex]")) fresh.querySelector("[tabindex]").focus();
      }
    } catch { /* The event source says that the service is away. */ } finally { busy = false; }
  };
  const plan = () => { due = due || setTimeout(refresh, 500); };
  const source = new EventSource("/events");
  let opened = false;
  source.onopen = () => { say("Live: changes show by themselves"); if (opened) plan(); opened = true; };
  source.onerror = () => say("Not live: the service does not answer, trying again");
  const run = document.body.dataset.run;
  for (const type of ["created", "started", "waiting", "finished", "group", "table", "broker", "leader", "resync"]) {
    source.addEventListener(type, (event) => {
      const name = run && event.data ? JSON.parse(event.data).run_name : undefined;
      if (!run || !name || name === run) plan();
    });
  }
  setInterval(() => { if (!document.hidden) plan(); }, 15000);
  for (const input of document.querySelectorAll("input[data-fills]")) {
    input.addEventListener("change", async () => {
      const text = document.getElementById(input.dataset.fills);
      if (input.files[0] && text) text.value = await input.files[0].text();
    });
  }
  const log = document.querySelector("pre[data-follow]");
  const follow = async () => {
    const response = await fetch(log.dataset.follow);
    if (!response.ok || !response.body) return false;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let first = true;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return true;
      const atEnd = first || log.scrollTop + log.clientHeight >= log.scrollHeight - 40;
      const text = value.replace(/\\u001b\\[[0-9;?]*[ -\\/]*[@-~]/g, "");
      log.textContent = ((first ? "" : log.textContent) + text).slice(-262144);
      first = false;
      if (atEnd) log.scrollTop = log.scrollHeight;
    }
  };
  if (log) {
    (async () => {
      for (let tries = 0; tries < 600; tries++) {
        try { if (await follow()) return plan(); } catch { /* try again */ }
        await new Promise((resolve) => setTimeout(resolve, 2000));
      }
    })();
  }
})();
`;

function digest(text: string): string {
  return `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
}

/** The policy for every HTML answer: the one script and the one style of these pages, by hash, and nothing else. */
export function contentSecurityPolicy(): string {
  return [
    "default-src 'none'",
    `script-src ${digest(SCRIPT)}`,
    `style-src ${digest(STYLE)}`,
    "img-src data:",
    "connect-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
  ].join("; ");
}
