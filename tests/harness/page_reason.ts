/** What a run's page says of it: the one sentence under its state, as a reader sees it. */

const ENTITIES: Readonly<Record<string, string>> = {
  "&quot;": '"',
  "&#34;": '"',
  "&#39;": "'",
  "&lt;": "<",
  "&gt;": ">",
  "&amp;": "&",
};

/** Empty where there is no such page, or no sentence on it. `port`: of the page, on loopback. */
export async function pageReason(port: number, runName: string): Promise<string> {
  const answer = await fetch(`http://127.0.0.1:${port}/runs/${runName}`);
  const html = await answer.text();
  const reason = /<p class="reason">(.*?)<\/p>/s.exec(html)?.[1] ?? "";
  return reason.replaceAll(/&(?:quot|lt|gt|amp|#34|#39);/g, (entity) => ENTITIES[entity]!);
}
