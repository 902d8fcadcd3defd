/** Where the project is, and which modules make the product: found by walking, so that a new file counts at once. */

/** The project's folder, with a slash at its end. */
export const PROJECT = new URL("../../", import.meta.url);

/** Folders that hold no module of the product. */
const NO_PRODUCT = new Set(["tests", "docs", "deploy", "clients", "node_modules", "dist", "demo-data"]);

/** Paths of the product's modules, such as `k8s/client.ts`, in the order of names. */
export async function productModules(folder = ""): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isFile, isDirectory } of Deno.readDir(new URL(folder || ".", PROJECT))) {
    if (name.startsWith(".") || (folder === "" && NO_PRODUCT.has(name))) continue;
    if (isDirectory) found.push(...await productModules(`${folder}${name}/`));
    else if (isFile && /\.tsx?$/.test(name)) found.push(folder + name);
  }
  return found.sort();
}

/** A file of the project as text. */
export async function readProject(path: string): Promise<string> {
  return await Deno.readTextFile(new URL(path, PROJECT));
}

const HIDDEN = /^(\..*|node_modules|dist|demo-data)$/;

/** Paths of files below a folder (with a slash at its end; "": the project's) whose names end so; `deep`: in all folders. */
export async function filesOf(folder: string, extension: string, deep = false): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isFile, isDirectory } of Deno.readDir(new URL(folder || ".", PROJECT))) {
    if (isFile && name.endsWith(extension)) found.push(folder + name);
    if (deep && isDirectory && !HIDDEN.test(name)) found.push(...await filesOf(`${folder}${name}/`, extension, true));
  }
  return found.sort();
}
