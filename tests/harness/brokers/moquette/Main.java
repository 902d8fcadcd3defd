/** Moquette for tests: `Main FOLDER PORT`. Keeps its state in FOLDER/data; lets everybody in; reports nothing home. */
import io.moquette.broker.Server;
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
    settings.setProperty("allow_anonymous", "true");
    settings.setProperty("telemetry_enabled", "false");
    Server broker = new Server();
    Runtime.getRuntime().addShutdownHook(new Thread(broker::stopServer));
    broker.startServer(settings);
  }
}
