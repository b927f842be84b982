package iolite.conformance;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;

/** Hands the bytes of TCP connections on to a port of a hub, on a port of its own of the same address, and can cut them all. */
final class Proxy implements AutoCloseable {
    final AtomicInteger connections = new AtomicInteger();
    private final ServerSocket listener;
    private final InetAddress address;
    private final int port;
    private final List<Socket> open = new CopyOnWriteArrayList<>();

    Proxy(String address, int port) throws IOException {
        this.address = InetAddress.getByName(address);
        this.port = port;
        this.listener = new ServerSocket(0, 50, this.address);
        daemon(this::accept);
    }

    int port() {
        return listener.getLocalPort();
    }

    void cut() throws IOException {
        for (Socket socket : open) {
            socket.close();
        }
        open.clear();
    }

    @Override
    public void close() throws IOException {
        listener.close();
        cut();
    }

    private void accept() throws IOException {
        while (true) {
            Socket client = listener.accept();
            Socket hub = new Socket(address, port);
            open.addAll(List.of(client, hub));
            connections.incrementAndGet();
            daemon(() -> hand(client, hub));
            daemon(() -> hand(hub, client));
        }
    }

    private static void hand(Socket from, Socket to) throws IOException {
        try (from; to) {
            from.getInputStream().transferTo(to.getOutputStream());
        }
    }

    private interface Work {
        void run() throws IOException;
    }

    /** Ends with the sockets that the work is about: close takes those away. */
    private static void daemon(Work work) {
        Thread thread = new Thread(() -> {
            try {
                work.run();
            } catch (IOException e) {
                // A socket was closed, by one end or by this proxy.
            }
        });
        thread.setDaemon(true);
        thread.start();
    }
}
