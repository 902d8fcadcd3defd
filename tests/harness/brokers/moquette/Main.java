/** Moquette for tests: `Main FOLDER PORT`. Keeps its state in FOLDER/data; lets in BROKER_USER with BROKER_PASSWORD, or
 * everybody; reports nothing home. */
import io.moquette.broker.Server;
import io.moquette.broker.config.MemoryConfig;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.Properties;

public class Main {
  public static void main(String[] args) throws Exception {
    Path data = Files.createDirectories(Path.of(args[0], "data"));
    Properties settings = new Properties();
    settings.setProperty("host", "127.0.0.1");
    settings.setProperty("port", args[1]);
    settings.setProperty("websocket_port", "disabled");
    settings.setProperty("data_path", data.toString());
    settings.setProperty("persistence_enabled", "true");
    settings.setProperty("allow_anonymous", String.valueOf(System.getenv("BROKER_USER") == null));
    settings.setProperty("telemetry_enabled", "false");
    // Its preset takes 8 KiB.
    settings.setProperty("netty.mqtt.message_size", "8388608");
    Server broker = new Server();
    Runtime.getRuntime().addShutdownHook(new Thread(broker::stopServer));
    broker.startServer(new MemoryConfig(settings), null, null, Main::mayEnter, null);
  }

  static boolean mayEnter(String client, String user, byte[] password) {
    return System.getenv("BROKER_USER") == null
        || System.getenv("BROKER_USER").equals(user)
            && System.getenv("BROKER_PASSWORD").equals(new String(password, StandardCharsets.UTF_8));
  }
}
