/** ActiveMQ Artemis for tests: `Main FOLDER PORT`. Keeps its journal in FOLDER/data; lets everybody in. */
import org.apache.activemq.artemis.core.config.Configuration;
import org.apache.activemq.artemis.core.config.impl.ConfigurationImpl;
import org.apache.activemq.artemis.core.server.JournalType;
import org.apache.activemq.artemis.core.server.embedded.EmbeddedActiveMQ;
import org.apache.activemq.artemis.core.settings.impl.AddressSettings;

public class Main {
  public static void main(String[] args) throws Exception {
    String data = args[0] + "/data/";
    Configuration configuration = new ConfigurationImpl()
        .setPersistenceEnabled(true)
        .setSecurityEnabled(false)
        .setJournalType(JournalType.NIO)
        .setJournalDatasync(false)
        .setJournalDirectory(data + "journal")
        .setBindingsDirectory(data + "bindings")
        .setLargeMessagesDirectory(data + "large")
        .setPagingDirectory(data + "paging")
        .addAcceptorConfiguration("mqtt", "tcp://127.0.0.1:" + args[1] + "?protocols=MQTT")
        // Its preset gives a message up after ten deliveries.
        .addAddressSetting("#", new AddressSettings().setMaxDeliveryAttempts(-1));
    EmbeddedActiveMQ broker = new EmbeddedActiveMQ().setConfiguration(configuration);
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      try {
        broker.stop();
      } catch (Exception error) {
        error.printStackTrace();
      }
    }));
    broker.start();
  }
}
