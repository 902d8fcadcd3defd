/** A forward proxy of HTTP's CONNECT, as a company has one: it leads to loopback whatever name is asked for. */
import http from "node:http";
import net from "node:net";
import { freePort } from "./ports.ts";

/** Disposing it closes all. */
export class ConnectProxy implements AsyncDisposable {
  readonly port: number = freePort();
  readonly url: string = `http://127.0.0.1:${this.port}`;
  /** `host:port` of each tunnel that was asked for. */
  readonly asked: string[] = [];
  /** Answer instead of 200. */
  refuseWith: number | undefined;
  readonly #server = http.createServer();
  readonly #sockets = new Set<net.Socket>();

  private constructor(target: number | undefined) {
    this.#server.on("connect", (request, socket: net.Socket) => {
      const asked = request.url ?? "";
      this.asked.push(asked);
      if (this.refuseWith !== undefined) {
        socket.end(`HTTP/1.1 ${this.refuseWith} No\r\n\r\n`);
        return;
      }
      const server = net.connect(target ?? Number(asked.split(":")[1]), "127.0.0.1", () => {
        socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
        server.pipe(socket).pipe(server);
      });
      for (const [one, other] of [[socket, server], [server, socket]] as const) {
        this.#sockets.add(one);
        one.on("error", () => other.destroy()).on("close", () => {
          this.#sockets.delete(one);
          other.destroy();
        });
      }
    });
  }

  /** `target`: port on loopback that all tunnels lead to. Default: the one that is asked for. */
  static async start({ target }: { target?: number } = {}): Promise<ConnectProxy> {
    const proxy = new ConnectProxy(target);
    await new Promise<void>((resolve, reject) => {
      proxy.#server.once("error", reject).listen(proxy.port, "127.0.0.1", () => resolve());
    });
    return proxy;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }
}
