/**
 * The one style and the one script of the pages, and the policy that lets a browser use these two and nothing else.
 * Constants only; the pages are laid out beside this.
 */
import { createHash } from "node:crypto";
import { LOG_SCRIPT, LOG_STYLE } from "./log_assets.ts";

export const STYLE = `
:root{color-scheme:light dark;--bg:#f5f6f8;--card:#fff;--sunk:#f0f2f5;--text:#1b2026;--muted:#57606a;--line:#dde1e6;
--edge:#868f99;--link:#0a55a8;--focus:#0a55a8;--good:#1a6b34;--bar:#3d9960;--good-bg:#e4f3e8;--bad:#a8201a;--bad-bg:#fdeae8;
--warn:#7a4b00;--warn-bg:#fdf1dc;--run:#0a55a8;--run-bg:#e5effb;--node:#eef3f9;--end:#f3eefb;
--mono:ui-monospace,"SF Mono","DejaVu Sans Mono",monospace}
@media(prefers-color-scheme:dark){:root{--bg:#101417;--card:#181d22;--sunk:#12171b;--text:#e4e8ec;--muted:#a2adb8;
--line:#2c343c;--edge:#78838e;--link:#7db8ff;--focus:#7db8ff;--good:#7ddb98;--bar:#4fa66d;--good-bg:#14301e;--bad:#ff9a92;
--bad-bg:#3a1d1c;--warn:#f0c06a;--warn-bg:#33270f;--run:#7db8ff;--run-bg:#152a42;--node:#222b35;--end:#2b2536}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--text);font:15px/1.45 system-ui,sans-serif}
.top{background:var(--card);border-bottom:1px solid var(--line)}
.bar,main,footer{max-width:96rem;margin:0 auto;padding:0 1.25rem}
.bar{display:flex;flex-wrap:wrap;align-items:center;gap:0 1.5rem;min-height:2.75rem}
.brand{font-weight:700;color:inherit;text-decoration:none}
nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:0 .25rem;margin:0;padding:0}
nav a{display:block;padding:.65rem .6rem .55rem;color:var(--muted);text-decoration:none;border-bottom:2px solid transparent}
nav a:hover{color:var(--text)}nav a[aria-current]{color:var(--text);font-weight:600;border-color:var(--link)}
.who{display:flex;align-items:center;gap:.75rem}.who form{gap:.5rem}
#live-note{margin:0 0 0 auto;font-size:.8rem;color:var(--muted)}
#live-note[data-is=on]:before{content:"\\25cf  ";color:var(--good)}#live-note[data-is=off]:before{content:"\\25b2  ";color:var(--bad)}
.head{display:flex;flex-wrap:wrap;align-items:baseline;gap:.1rem 1rem;padding-top:.8rem}
h1{font-size:1.3rem;line-height:1.3;margin:0;overflow-wrap:anywhere}
h2{font-size:1rem;margin:0 0 .5rem}
p{margin:.4rem 0}ul{margin:.4rem 0;padding-left:1.2rem}
a{color:var(--link);text-underline-offset:.15em}
a:focus-visible,button:focus-visible,input:focus-visible,select:focus-visible,textarea:focus-visible,
summary:focus-visible,[tabindex]:focus-visible{outline:3px solid var(--focus);outline-offset:2px}
main:focus-visible{outline:none}
.skip,.vh{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
.skip:focus{width:auto;height:auto;clip-path:none;left:1rem;top:.5rem;background:var(--card);padding:.5rem;z-index:9}
section{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.8rem 1rem;margin:.8rem 0}
section>:last-child{margin-bottom:0}
.bare{background:none;border:0;padding:0}
.cols{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:.8rem;align-items:start}
.cols section{margin:0}.cols>div{display:grid;grid-template-columns:minmax(0,1fr);gap:.8rem;min-width:0}
.line{display:flex;flex-wrap:wrap;align-items:center;gap:.3rem .75rem}.line>.end{margin-left:auto}.line h2{margin:0}
.tiles>li{flex:1 1 0;max-width:15rem}.tiles{display:flex;flex-wrap:wrap;gap:.6rem;margin:.8rem 0;padding:0;list-style:none}
.tile{display:block;padding:.4rem .9rem;background:var(--card);border:1px solid var(--line);
border-radius:.5rem;text-decoration:none}a.tile{color:var(--text)}
a.tile:hover{border-color:var(--link)}.tile b{display:block;font-size:1.5rem;line-height:1.2;font-variant-numeric:tabular-nums}
.tile span{color:var(--muted);font-size:.85rem}.tile.bad b,.tile.warn b,.tile.run b{color:var(--tone)}
.tag{display:inline-block;padding:0 .45rem;border-radius:.3rem;font-size:.82rem;font-weight:600;white-space:nowrap;
color:var(--tone,var(--muted));background:var(--tone-bg,var(--sunk))}
.tag:before{content:"\\25cc";content:"\\25cc"/"";margin-right:.35em;font-family:var(--mono)}
.tag.good:before{content:"\\25cf";content:"\\25cf"/""}.tag.bad:before{content:"\\2715";content:"\\2715"/""}
.tag.warn:before{content:"\\25b2";content:"\\25b2"/""}.tag.run:before{content:"\\25b6";content:"\\25b6"/""}
.tag.off:before{content:"\\2013";content:"\\2013"/""}.tag.again:before{content:"\\21bb";content:"\\21bb"/""}
.good{--tone:var(--good);--tone-bg:var(--good-bg)}.bad{--tone:var(--bad);--tone-bg:var(--bad-bg)}
.warn{--tone:var(--warn);--tone-bg:var(--warn-bg)}.run{--tone:var(--run);--tone-bg:var(--run-bg)}
.good,.bad,.warn,.run{color:var(--tone)}
p.good,p.bad,p.warn,span.good,span.bad,span.warn,span.run,td.bad,td.warn,li.bad,li.warn,div.bad,div.warn{font-weight:600}
.muted{color:var(--muted)}.small{font-size:.85rem}
.name{display:inline-block;max-width:100%;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;vertical-align:bottom}td>.name,th>.name{max-width:8rem}
.cut{display:-webkit-box;-webkit-box-orient:vertical;-webkit-line-clamp:2;overflow:hidden;overflow-wrap:anywhere}
code,pre,.mono{font-family:var(--mono);font-size:.85em}code,a{overflow-wrap:anywhere}
pre{margin:0;padding:.75rem;border:1px solid var(--line);border-radius:.25rem;background:var(--sunk);white-space:pre-wrap;
overflow-wrap:anywhere;max-height:32rem;overflow:auto}
table{border-collapse:collapse;width:100%;font-size:.88rem}
caption{text-align:left;color:var(--muted);padding-bottom:.25rem}
th,td{text-align:left;vertical-align:top;padding:.3rem .75rem .3rem 0;border-bottom:1px solid var(--line);overflow-wrap:anywhere}
tbody tr:last-child>*{border-bottom:0}
thead th{color:var(--muted);font-weight:600;font-size:.82rem;overflow-wrap:normal;vertical-align:bottom}
thead a{color:inherit}th[aria-sort=ascending] a:after{content:" \\2191"}th[aria-sort=descending] a:after{content:" \\2193"}
tbody th{font-weight:400}.num{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.nowrap,time{white-space:nowrap}
dl{display:grid;grid-template-columns:11rem minmax(0,1fr);gap:.2rem 1rem;margin:0}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
form{display:flex;flex-wrap:wrap;gap:.5rem .75rem;align-items:end}
label{display:block;font-size:.82rem;color:var(--muted)}
input,select,textarea,button,.button{font:inherit;color:inherit;background:var(--card);border:1px solid var(--edge);
border-radius:.3rem;padding:.25rem .5rem;max-width:100%;min-height:2rem}
textarea{width:24rem;min-height:4.5rem}input[type=checkbox]{min-height:0;width:1.15rem;height:1.15rem;margin:0}
button,.button{cursor:pointer;font-weight:600;text-decoration:none;display:inline-block;background:var(--sunk)}
button:hover,.button:hover{border-color:var(--link)}button.main{background:var(--link);border-color:var(--link);color:var(--card)}
.pager{display:flex;flex-wrap:wrap;align-items:center;gap:.25rem .75rem;margin:.5rem 0 0;font-size:.88rem}
summary{cursor:pointer;min-height:1.5rem}details>:nth-child(2){margin-top:.5rem}
.chips{display:flex;flex-wrap:wrap;gap:.35rem;margin:.5rem 0;padding:0;list-style:none}
.chips a{display:block;padding:.1rem .6rem;border:1px solid var(--line);border-radius:1rem;text-decoration:none;font-size:.85rem}
.chips a[aria-current]{background:var(--run-bg);border-color:var(--link);font-weight:600}
.grow{flex:1;min-width:0}.alarm{border-color:var(--bad);border-left-width:.3rem}.alarm p{margin:.2rem 0}
.listform{gap:.35rem;font-size:.85rem}.listform :is(input,select,button){min-height:1.75rem;padding:.1rem .4rem}
.listform input{width:9rem}
.lines,.rowlist{list-style:none;margin:0;padding:0}.lines>li{padding:.3rem 0;border-top:1px solid var(--line)}
.lines>li:first-child,.rowlist>li:first-child{border:0}.lines .cut{margin:.1rem 0 0;font-size:.88rem}.line>.name{min-width:0}
.rowlist>li{display:grid;grid-template-columns:minmax(0,1fr) auto 180px 5.5rem;gap:.25rem .75rem;align-items:center;
min-height:2.1rem;border-top:1px solid var(--line)}
.lines>li.line{flex-wrap:nowrap}.lines>li>.mono.name{max-width:60%}.lines .muted{white-space:nowrap}td p{margin:0}.counts{display:flex;gap:.3rem}.rowlist>li>:last-child{text-align:right}
.find{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.6rem 1rem;margin:.8rem 0;align-items:start}
.find .pair,.more{display:flex;flex-wrap:wrap;gap:.5rem .75rem}.find details{align-self:end}.find details[open]{order:9;width:100%}
.find .acts{align-self:end}.find summary{padding:.35rem 0}
.reason{font-size:1.05rem}
.ends{display:inline-block;vertical-align:middle;padding:.1rem 0;line-height:0;max-width:100%}
.ends svg{max-width:100%}.ends .s{fill:var(--bar)}.ends .f{fill:var(--bad)}.ends .c{fill:none;stroke:var(--warn)}
.strip{display:block;font-family:var(--mono);line-height:1.2;overflow-wrap:anywhere}
td .strip:not(:last-child){display:inline}
.strip .succeeded{color:var(--good)}.strip .failed{color:var(--bad);font-weight:600}.strip .running{color:var(--run)}
svg text{font:12px ui-monospace,"DejaVu Sans Mono",monospace;fill:var(--text)}
svg .mark{fill:var(--bad);font-weight:600}
svg .node{fill:var(--card);stroke:var(--muted)}
svg .topic{fill:var(--node)}svg .end{fill:var(--end)}
svg .odd{stroke:var(--bad);stroke-width:2;stroke-dasharray:5 3}
svg .edge{fill:none;stroke:var(--muted)}svg .fails{stroke-dasharray:4 3}svg .needs{stroke-width:2.5px}svg .tip{fill:var(--muted)}
footer{padding-bottom:1rem;font-size:.82rem}footer button{min-height:1.75rem;padding:.1rem .5rem;font-weight:400}
@media(max-width:60rem){.cols{grid-template-columns:minmax(0,1fr)}}
@media(min-width:80rem){.stack th .mono{white-space:nowrap}td>.name,th>.name{max-width:13rem}}
@media(max-width:48rem){
.bar,main,footer{padding:0 .75rem}.bar{gap:0 .75rem;min-height:2rem}.brand{font-size:.9rem;line-height:2rem}
nav{order:9;width:100%}nav ul{justify-content:space-between;gap:0}nav a{padding:.25rem .2rem;font-size:.875rem}
.head{padding-top:.4rem}h1{font-size:1.1rem}section{padding:.5rem .75rem;margin:.5rem 0}h2{margin-bottom:.25rem}
.cols,.cols>div{gap:.5rem}.tiles{gap:.4rem;margin:.5rem 0}.tile{min-width:0;padding:.25rem .6rem}.tile b{font-size:1.25rem}
.listform{order:9;width:100%;flex-wrap:nowrap}.listform :is(input,select){flex:1;min-width:0;width:0}.rowlist>li{grid-template-columns:minmax(0,1fr) auto 150px;min-height:2rem}
.find{padding:.5rem .75rem;margin:.5rem 0;gap:.4rem}.more>div{width:100%}.find .acts{width:auto;margin-left:auto}.stack td>.name,.stack th>.name{max-width:100%}
.lines>li>.mono.name{flex:1 1 0;max-width:none}.lines>li.line{flex-wrap:wrap}.lines .detail{order:9;flex-basis:100%;display:block}.lines .detail:empty{display:none}
dl{grid-template-columns:minmax(0,1fr)}dd{margin-bottom:.3rem}textarea,form>div{width:100%}
input:not([type=checkbox]),select{width:100%;font-size:16px}.pair{display:flex;gap:.5rem}.pair>*{flex:1;min-width:0}
main a{display:inline-block;min-height:24px;min-width:24px;line-height:24px}
.stack,.stack tbody,.stack tr,.stack td,.stack th{display:block;width:auto}
.stack thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.stack tr{padding:.35rem 0;border-bottom:1px solid var(--line)}.stack tr:last-child{border:0}
.stack th,.stack td{border:0;padding:.05rem 0;text-align:left;white-space:normal}
.stack td[data-l]{display:grid;grid-template-columns:6.5rem minmax(0,1fr);gap:.5rem}
.stack td[data-l]:before{content:attr(data-l);color:var(--muted)}.stack td[data-l]>*{justify-self:start;grid-column:2}
.few>:nth-child(n+4),.few+.pager,.wideonly{display:none}.stack td:empty,.stack tr>.wideonly{display:none}.stack tr>.il{display:inline-block;margin-right:.75rem}
}
@media(prefers-reduced-motion:no-preference){a.tile,button,.button{transition:border-color .1s}}
${LOG_STYLE}/* charts */
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
/* a run */
.why{margin-left:.4rem;color:var(--muted)}.facts-line{display:flex;flex-wrap:wrap;gap:.1rem 1.25rem;list-style:none;padding:0}
pre.tail,pre.all{max-height:none;overflow:visible}button.copy{display:none;min-height:1.5rem;padding:0 .5rem;font-weight:400}.copies button.copy{display:inline-block}
svg.timeline,svg.key,.gantt svg{display:block}svg.key{display:inline-block;vertical-align:-2px}
svg .step-wait{fill:var(--edge)}svg .step-ready{fill:var(--muted)}svg .step-run{fill:var(--run)}
svg .step-after{fill:var(--card);stroke:var(--edge)}
.steps{width:auto;min-width:min(100%,34rem);margin-top:.5rem}.steps th{font-weight:400}
.steps tr:last-child>*{font-weight:600;border:0}
.gantt ol{list-style:none;margin:0;padding:0}
.gantt li,.axis{display:grid;grid-template-columns:minmax(0,27rem) minmax(0,1fr) 15.5rem;gap:0 .75rem;align-items:center;padding:.15rem .25rem}
.gantt li{border-bottom:1px solid var(--line)}.gantt .own{background:var(--run-bg)}.axis svg{grid-column:2;overflow:visible}
.axis text{font:11px system-ui,sans-serif;fill:var(--muted)}.gantt .who{display:block;overflow-wrap:anywhere;font-size:.88rem}
.gantt .took{font-size:.82rem;color:var(--muted)}
.d1{padding-left:1rem}.d2{padding-left:2rem}.d3{padding-left:3rem}.d4{padding-left:4rem}.d5{padding-left:5rem}.d6{padding-left:6rem}
.gantt li svg{width:100%;height:16px}.gantt rect{y:1px;height:14px;rx:1px}.gantt rect.wait{y:6px;height:4px;fill:var(--edge)}
.gantt rect.group{y:4px;height:8px}.gantt rect.run{fill:var(--run)}.gantt rect.good{fill:var(--good)}.gantt rect.bad{fill:var(--bad)}
.gantt rect.off{fill:var(--card);stroke:var(--edge)}
#messages td>div{line-height:24px}.events{list-style:none;padding:0;font-size:.88rem}.links{display:flex;flex-wrap:wrap}.links>*{display:inline-block;min-width:24px;min-height:24px;line-height:24px;text-align:center;text-decoration:none}
.stack td .tag{justify-self:start}.states{display:flex;flex-wrap:wrap;gap:0 .25rem}
@media(max-width:64rem){.gantt li,.axis{grid-template-columns:minmax(0,1fr)}.axis svg{grid-column:1}}
@media(max-width:40rem){
.d1,.d2,.d3,.d4,.d5,.d6{padding-left:.5rem;border-left:2px solid var(--line)}.d2{padding-left:.9rem}.d3,.d4,.d5,.d6{padding-left:1.3rem}
.steps .wideonly{display:none}.steps th,.steps td{padding-right:.4rem}}
/* a row */
#row-tiles>li{flex:1 1 7.5rem}.tiles>li>.tile{height:100%}
@media(max-width:40rem){.stack td:empty{display:none!important}#days-table :is(th,td){padding-right:.3rem;font-size:.75rem;overflow-wrap:anywhere}}
/* graph */
.canvas{overflow-x:auto;margin-top:.5rem}#graph-rows{overflow-wrap:anywhere}.canvas svg{display:block;zoom:var(--zoom,1)}
.legend .strip{line-height:1.6}.zoom{white-space:nowrap}.zoom .button{min-width:2rem;text-align:center}
svg text.name{font-weight:600}svg .note,svg .life,svg .word{fill:var(--muted)}
svg .word{stroke:var(--card);stroke-width:3;paint-order:stroke}svg .life.running{fill:var(--run);font-weight:600}
svg .life.failed{fill:var(--bad);font-weight:600}
svg .is-running{stroke:var(--run);stroke-width:3}svg .is-failed{stroke:var(--bad);stroke-width:2}
svg .is-unknown{fill:none;stroke-dasharray:2 3}
svg .s{fill:var(--good)}svg .f{fill:var(--bad)}svg .r{fill:var(--run)}
svg a:hover .node{stroke:var(--link)}svg a:focus-visible{outline:none}
svg a:focus-visible .node{stroke:var(--focus);stroke-width:4}
/* forms that act */
.act form,form.tall{display:grid;grid-template-columns:minmax(0,1fr);justify-items:start;gap:.6rem}.act form>div,.tall>*{max-width:100%}.act textarea{width:44rem;min-height:8rem}
.bar .who form{flex-wrap:nowrap;align-items:center}.bar .who{font-size:.9rem}.bar .who button{min-height:1.75rem;padding:.1rem .5rem;font-weight:400}
@media(max-width:40rem){.anon{display:none}.bar .who .name{max-width:6rem}}
.picks{display:block}.picks p button{font-size:.85rem;min-height:1.75rem;padding:.1rem .5rem}.pick{display:inline-grid;place-items:center;min-width:24px;min-height:24px;vertical-align:middle;margin-right:.3rem}
@media(min-width:48rem){.picks tbody tr>:has(>.pick){white-space:nowrap}}.pick-all{display:none}.scripted .pick-all{display:inline-block}
.fault{color:var(--bad);font-weight:600;margin:.25rem 0 0;max-width:40rem}.fault:before{content:"\\2715  "}
[aria-invalid=true]{border:2px solid var(--bad)}
.done{background:var(--good-bg);color:var(--good);border-radius:.3rem;padding:.4rem .75rem;font-weight:600}
.done:before{content:"\\25cf  "}.bar .who .name{max-width:14rem}.bar .who a{display:inline-block;padding:.35rem 0}
`;

/**
 * What makes pages live: the parts marked `data-live` are replaced when the service tells something, links and forms
 * marked `data-in-place` change the list that they belong to without leaving the page, and times can be had as local
 * ones. And the growing log. Reading needs none of it. Parsed markup runs no script, and the policy would not let it.
 */
export const SCRIPT = `
(() => {
  const note = document.getElementById("live-note");
  const say = (is, word, rest) => {
    if (!note || note.dataset.is === is) return;
    note.dataset.is = is;
    const more = document.createElement("span");
    more.className = "vh";
    more.textContent = rest;
    note.replaceChildren(word, more);
  };
  const stamp = (root) => {
    for (const at of root.querySelectorAll("time[datetime]")) {
      const utc = at.dataset.utc || (at.dataset.utc = at.title || at.textContent);
      const date = new Date(at.dateTime);
      const here = new Date(date - date.getTimezoneOffset() * 60000).toISOString().replace("T", " ").slice(0, 19);
      if (at.title) at.title = local ? here + " local" : utc;
      else at.textContent = local ? here.slice(0, utc.length) : utc;
    }
  };
  const zone = document.getElementById("zone");
  let local = false;
  try { local = localStorage.getItem("times") === "local"; } catch { /* not allowed here */ }
  const sayZone = () => {
    zone.textContent = local ? "Show UTC" : "Show local times";
    zone.previousElementSibling.textContent = local
      ? "Times are local (" + Intl.DateTimeFormat().resolvedOptions().timeZone + ")." : "Times are UTC.";
  };
  zone.hidden = false;
  zone.addEventListener("click", () => {
    local = !local;
    try { localStorage.setItem("times", local ? "local" : "utc"); } catch { /* for this page only */ }
    sayZone();
    stamp(document);
  });
  sayZone();
  const came = new Map();
  for (const part of document.querySelectorAll("[data-live]")) came.set(part.id, part.innerHTML);
  if (local) stamp(document);
  const renew = (part, fresh) => {
    const at = part.contains(document.activeElement) ? document.activeElement : undefined;
    const kept = [...part.querySelectorAll("input,select,textarea,details[id]")].flatMap((one) => {
      if (one.tagName === "DETAILS") return [["#" + CSS.escape(one.id), { open: one.open }]];
      if (one.type === "checkbox") {
        const path = "input[name=" + CSS.escape(one.name) + "][value=" + CSS.escape(one.value) + "]";
        return one.checked !== one.defaultChecked ? [[path, { checked: one.checked }]] : [];
      }
      const isChanged = one.tagName === "SELECT" ? one === at : one.value !== one.defaultValue;
      return one.id && isChanged ? [["#" + CSS.escape(one.id), { value: one.value }]] : [];
    });
    part.replaceWith(fresh);
    for (const [path, state] of kept) Object.assign(fresh.querySelector(path) || {}, state);
    if (!at) return;
    const href = at.getAttribute("href");
    const same = at.id ? fresh.querySelector("#" + CSS.escape(at.id))
      : href && [...fresh.querySelectorAll("a")].find((link) => link.getAttribute("href") === href);
    if (!same) fresh.tabIndex = -1;
    (same || fresh).focus({ preventScroll: true });
  };
  let due, busy = false, began = 0, gap = 0, missed = false;
  const refresh = async () => {
    due = undefined;
    if (busy) return plan();
    busy = true;
    began = performance.now();
    try {
      const response = await fetch(location.href, { headers: { "x-again": "yes" } });
      // Too many ask at a time.
      if (response.status === 503) setTimeout(plan, 500 + 500 * Math.random());
      if (!response.ok) return false;
      const next = new DOMParser().parseFromString(await response.text(), "text/html");
      for (const part of document.querySelectorAll("[data-live]")) {
        const fresh = next.getElementById(part.id);
        if (!fresh || fresh.innerHTML === came.get(part.id)) continue;
        const marked = getSelection();
        // What is being copied stays.
        if (!marked.isCollapsed && part.contains(marked.anchorNode)) { missed = true; continue; }
        came.set(part.id, fresh.innerHTML);
        if (local) stamp(fresh);
        renew(part, fresh);
      }
      return true;
    } catch { return false; /* The event source says that the service is away. */ } finally {
      busy = false;
      // A service that is busy is asked less often.
      gap = Math.min(5000, Math.max(400, 2 * (performance.now() - began)));
    }
  };
  // A page without live parts is a new one at each step, and stays as it came.
  const isLive = came.size > 0;
  const plan = () => {
    if (!isLive) return;
    if (document.hidden) { missed = true; return; }
    due = due || setTimeout(refresh, Math.max(50, began + gap - performance.now()));
  };
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && missed) { missed = false; plan(); }
  });
  // What was made for a page that nobody looked at is old.
  let source, opened = document.hidden;
  const run = document.body.dataset.run;
  const types = ["created", "started", "waiting", "retrying", "finished", "group", "join", "scheduled", "table",
    "broker", "leader", "resync"];
  if (document.getElementById("messages")) types.push("message");
  const told = (event) => {
    const name = run && event.data ? JSON.parse(event.data).run_name : undefined;
    if (!run || !name || name === run) plan();
  };
  const listen = () => {
    source = new EventSource("/events");
    source.onopen = () => {
      say("on", "Live", ": changes show by themselves");
      if (opened) plan();
      opened = true;
    };
    source.onerror = () => say("off", "Not live", ": the service does not answer, trying again");
    for (const type of types) source.addEventListener(type, told);
  };
  if (!document.hidden) listen();
  // A browser has six connections to a service: pages that nobody looks at leave them to the others.
  const lookedAt = () => new Promise((resolve) => {
    const look = () => document.hidden ? document.addEventListener("visibilitychange", look, { once: true }) : resolve();
    look();
  });
  let stopLog = () => {};
  let leaving;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(leaving);
    if (!document.hidden) return source || listen();
    leaving = setTimeout(() => {
      if (source) source.close();
      source = undefined;
      stopLog();
    }, 1000);
  });
  setInterval(plan, 15000);
  let shown = location.pathname + location.search;
  const show = async (url) => {
    history.pushState(null, "", url);
    shown = location.pathname + location.search;
    while (busy) await new Promise((resolve) => setTimeout(resolve, 20));
    if (!await refresh()) location.reload();
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-in-place]");
    if (!isLive || !link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    show(link.href);
  });
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!isLive || !form.matches("form[data-in-place]")) return;
    event.preventDefault();
    const url = new URL(location.pathname + location.search, location.href);
    const own = [...form.elements].filter((one) => one.name && one.type !== "hidden").map((one) => one.name);
    for (const name of [...own, ...(form.dataset.resets || "").split(" ")]) url.searchParams.delete(name);
    for (const [name, value] of new FormData(form, event.submitter)) {
      if (value && own.includes(name)) url.searchParams.append(name, value);
    }
    show(url);
  });
  let typed;
  document.addEventListener("input", (event) => {
    const { type, form } = event.target;
    if (type !== "search" || !form || !form.matches("form[data-in-place]")) return;
    clearTimeout(typed);
    typed = setTimeout(() => form.requestSubmit(), 300);
  });
  document.addEventListener("change", (event) => {
    const form = event.target.form;
    if (event.target.tagName === "SELECT" && form && form.matches("form[data-in-place]")) form.requestSubmit();
  });
  // Also told of a step to another place of the same page.
  addEventListener("popstate", () => { if (shown !== location.pathname + location.search) location.reload(); });
  for (const input of document.querySelectorAll("input[data-fills]")) {
    input.addEventListener("change", async () => {
      const text = document.getElementById(input.dataset.fills);
      if (input.files[0] && text) text.value = await input.files[0].text();
    });
  }
  document.body.classList.add("scripted");
  document.addEventListener("click", (event) => {
    const all = event.target.closest(".pick-all");
    if (!all) return;
    const boxes = [...all.form.querySelectorAll("input[name=run_name]")];
    const pick = boxes.some((box) => !box.checked);
    for (const box of boxes) box.checked = pick;
  });
  // A second click sends nothing.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post" || event.defaultPrevented) return;
    if (form.dataset.sent) return event.preventDefault();
    form.dataset.sent = "yes";
    setTimeout(() => delete form.dataset.sent, 3000);
  });
  // A page that the browser has kept may be of who is signed out by now.
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  if (navigator.clipboard) document.body.classList.add("copies");
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    try { await navigator.clipboard.writeText(button.dataset.copy); button.textContent = "Copied"; } catch { /* not allowed */ }
  });
  const canvas = document.getElementById("canvas");
  if (canvas) {
    let zoom = 1;
    const zoomTo = (next) => {
      next = Math.min(4, Math.max(.25, next));
      // What is in the middle stays there.
      const left = (canvas.scrollLeft + canvas.clientWidth / 2) * next / zoom - canvas.clientWidth / 2;
      zoom = next;
      canvas.style.setProperty("--zoom", zoom);
      canvas.scrollLeft = left;
    };
    const step = { in: () => zoomTo(zoom * 1.25), out: () => zoomTo(zoom / 1.25), fit: () => {
      zoomTo(canvas.clientWidth / canvas.querySelector("svg").getAttribute("width"));
    } };
    document.addEventListener("click", (event) => {
      const link = event.target.closest("a[data-zoom]");
      if (!link) return;
      event.preventDefault();
      step[link.dataset.zoom]();
    });
    document.addEventListener("keydown", (event) => {
      const how = { "+": "in", "=": "in", "-": "out", "0": "fit" }[event.key];
      if (!how || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input,textarea,select")) return;
      event.preventDefault();
      step[how]();
    });
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      step[event.deltaY < 0 ? "in" : "out"]();
    }, { passive: false });
  }
  const log = document.querySelector("pre[data-follow]");
  const follow = async () => {
    await lookedAt();
    const reading = new AbortController();
    stopLog = () => reading.abort();
    const response = await fetch(log.dataset.follow, { signal: reading.signal });
    if (!response.ok || !response.body) return false;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let first = true;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return true;
      const atEnd = first || log.scrollTop + log.clientHeight >= log.scrollHeight - 40;
      const text = value.replace(/\\u001b\\[[0-9;?]*[ -\\/]*[@-~]/g, "");
      log.textContent = ((first ? "" : log.textContent) + text).slice(-262144);
      if (log.dataset.lines) log.textContent = log.textContent.split("\\n").slice(-log.dataset.lines).join("\\n");
      first = false;
      if (atEnd) log.scrollTop = log.scrollHeight;
    }
  };
  if (log) {
    (async () => {
      for (let tries = 0; tries < 600; tries++) {
        try { if (await follow()) return plan(); } catch { if (document.hidden) tries = 0; }
        await new Promise((resolve) => setTimeout(resolve, 2000));
      }
    })();
  }
})();
${LOG_SCRIPT}`;

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
