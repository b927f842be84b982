import java.net.Socket;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.SSLSocketFactory;

/** Connects to each target "address port name" with Java's own trust store and prints a line: OK or what went wrong. */
public class Connect {
    public static void main(String[] targets) throws Exception {
        for (String target : targets) {
            String[] t = target.split(" ");
            int port = Integer.parseInt(t[1]);
            SSLSocketFactory factory = (SSLSocketFactory) SSLSocketFactory.getDefault();
            try (SSLSocket s = (SSLSocket) factory.createSocket(new Socket(t[0], port), t[2], port, true)) {
                SSLParameters p = s.getSSLParameters();
                p.setEndpointIdentificationAlgorithm("HTTPS");
                s.setSSLParameters(p);
                s.startHandshake();
                System.out.println("OK");
            } catch (Exception e) {
                System.out.println(e.toString().replace('\n', ' '));
            }
        }
    }
}
