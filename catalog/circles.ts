/**
 * What goes round in circles in a graph of numbered nodes. Pure; done in steps.
 */

/**
 * Sets of two or more nodes each of which leads to each other, by Tarjan's algorithm without recursion: a chain may be as
 * long as a table. Yields now and then.
 */
export function* findCircles(
  starts: Iterable<number>,
  successors: (node: number) => readonly number[],
): Generator<void, number[][]> {
  const order = new Map<number, number>();
  const low = new Map<number, number>();
  const open: number[] = [];
  const isOpen = new Set<number>();
  const circles: number[][] = [];
  let steps = 0;
  for (const start of starts) {
    if (order.has(start)) continue;
    const path: { node: number; next: readonly number[]; at: number }[] = [];
    const enter = (node: number) => {
      order.set(node, order.size);
      low.set(node, order.size - 1);
      open.push(node);
      isOpen.add(node);
      path.push({ node, next: successors(node), at: 0 });
    };
    enter(start);
    for (let top = path.at(-1); top; top = path.at(-1)) {
      if (++steps % 2048 === 0) yield;
      const { node } = top;
      const to = top.next[top.at++];
      if (to !== undefined) {
        if (!order.has(to)) enter(to);
        else if (isOpen.has(to)) low.set(node, Math.min(low.get(node) ?? 0, order.get(to) ?? 0));
        continue;
      }
      path.pop();
      const above = path.at(-1);
      if (above) low.set(above.node, Math.min(low.get(above.node) ?? 0, low.get(node) ?? 0));
      if (low.get(node) === order.get(node)) takeComponent(node);
    }
  }
  return circles;

  function takeComponent(root: number) {
    const members: number[] = [];
    for (let node = open.pop(); node !== undefined; node = open.pop()) {
      isOpen.delete(node);
      members.push(node);
      if (node === root) break;
    }
    if (members.length > 1) circles.push(members);
  }
}
