import java.util.concurrent.CountDownLatch;
import org.codelibs.opensearch.runner.OpenSearchRunner;

/** One node of OpenSearch in a directory, on a port of loopback, until it is told to stop. */
public final class OpenSearch {
    public static void main(String[] arguments) throws Exception {
        String directory = arguments[0];
        String port = arguments[1];
        OpenSearchRunner runner = new OpenSearchRunner();
        CountDownLatch stopped = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                runner.close();
            } catch (Exception error) {
                error.printStackTrace();
            }
            stopped.countDown();
        }));
        runner.onBuild((number, settings) -> {
            settings.put("http.port", port);
            settings.put("network.host", "127.0.0.1");
            settings.put("transport.port", "0");
            settings.put("discovery.type", "single-node");
            // A test server shares its disk with everything else, and must not refuse writes for it.
            settings.put("cluster.routing.allocation.disk.threshold_enabled", "false");
        }).build(OpenSearchRunner.newConfigs().basePath(directory).numOfNode(1).clusterName("factum"));
        runner.ensureYellow();
        System.out.println("ready on " + port);
        stopped.await();
    }
}
