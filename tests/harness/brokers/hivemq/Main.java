/** HiveMQ CE for tests: `Main FOLDER`, with FOLDER/conf/config.xml. Keeps its state in FOLDER/data; lets
 * in BROKER_USER with BROKER_PASSWORD, or everybody. */
import com.hivemq.embedded.EmbeddedExtension;
import com.hivemq.embedded.EmbeddedHiveMQ;
import com.hivemq.extension.sdk.api.ExtensionMain;
import com.hivemq.extension.sdk.api.auth.SimpleAuthenticator;
import com.hivemq.extension.sdk.api.auth.parameter.SimpleAuthInput;
import com.hivemq.extension.sdk.api.auth.parameter.SimpleAuthOutput;
import com.hivemq.extension.sdk.api.parameter.*;
import com.hivemq.extension.sdk.api.services.Services;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;

public class Main {
  public static void main(String[] args) throws Exception {
    Path folder = Path.of(args[0]);
    for (String name : new String[] {"data", "extensions"}) Files.createDirectories(folder.resolve(name));
    EmbeddedHiveMQ broker = EmbeddedHiveMQ.builder()
        .withConfigurationFolder(folder.resolve("conf"))
        .withDataFolder(folder.resolve("data"))
        .withExtensionsFolder(folder.resolve("extensions"))
        .withEmbeddedExtension(EmbeddedExtension.builder()
            .withId("everybody").withName("everybody").withVersion("1").withExtensionMain(new Everybody()).build())
        .build();
    Runtime.getRuntime().addShutdownHook(new Thread(() -> broker.stop().join()));
    broker.start().join();
  }

  /** Without an extension that decides, HiveMQ refuses each client. */
  static class Everybody implements ExtensionMain {
    public void extensionStart(ExtensionStartInput input, ExtensionStartOutput output) {
      SimpleAuthenticator accept = new SimpleAuthenticator() {
        public void onConnect(SimpleAuthInput connect, SimpleAuthOutput answer) {
          if (mayEnter(connect)) answer.authenticateSuccessfully();
          else answer.failAuthentication();
        }
      };
      Services.securityRegistry().setAuthenticatorProvider(client -> accept);
    }

    static boolean mayEnter(SimpleAuthInput connect) {
      String user = System.getenv("BROKER_USER");
      return user == null
          || connect.getConnectPacket().getUserName().filter(user::equals).isPresent()
              && connect.getConnectPacket().getPassword().map(StandardCharsets.UTF_8::decode).map(Object::toString)
                  .filter(System.getenv("BROKER_PASSWORD")::equals).isPresent();
    }

    public void extensionStop(ExtensionStopInput input, ExtensionStopOutput output) {}
  }
}
