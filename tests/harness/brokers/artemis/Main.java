/** ActiveMQ Artemis for tests: `Main FOLDER PORT`. Keeps its journal in FOLDER/data; lets in BROKER_USER with BROKER_PASSWORD, or
 * everybody. */
import org.apache.activemq.artemis.core.config.Configuration;
import org.apache.activemq.artemis.core.config.impl.ConfigurationImpl;
import org.apache.activemq.artemis.core.security.CheckType;
import org.apache.activemq.artemis.core.security.Role;
import org.apache.activemq.artemis.core.server.JournalType;
import org.apache.activemq.artemis.core.server.embedded.EmbeddedActiveMQ;
import org.apache.activemq.artemis.core.settings.impl.AddressSettings;
import org.apache.activemq.artemis.spi.core.security.ActiveMQSecurityManager;
import java.util.Set;

public class Main {
  public static void main(String[] args) throws Exception {
    String data = args[0] + "/data/";
    Configuration configuration = new ConfigurationImpl()
        .setPersistenceEnabled(true)
        .setSecurityEnabled(System.getenv("BROKER_USER") != null)
        .setJournalType(JournalType.NIO)
        .setJournalDatasync(false)
        .setJournalDirectory(data + "journal")
        .setBindingsDirectory(data + "bindings")
        .setLargeMessagesDirectory(data + "large")
        .setPagingDirectory(data + "paging")
        .addAcceptorConfiguration("mqtt", "tcp://127.0.0.1:" + args[1] + "?protocols=MQTT")
        // Its preset gives a message up after ten deliveries.
        .addAddressSetting("#", new AddressSettings().setMaxDeliveryAttempts(-1));
    EmbeddedActiveMQ broker = new EmbeddedActiveMQ().setConfiguration(configuration).setSecurityManager(new OneUser());
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      try {
        broker.stop();
      } catch (Exception error) {
        error.printStackTrace();
      }
    }));
    broker.start();
  }

  static class OneUser implements ActiveMQSecurityManager {
    public boolean validateUser(String user, String password) {
      return System.getenv("BROKER_USER").equals(user) && System.getenv("BROKER_PASSWORD").equals(password);
    }

    public boolean validateUserAndRole(String user, String password, Set<Role> roles, CheckType checkType) {
      return validateUser(user, password);
    }
  }
}
