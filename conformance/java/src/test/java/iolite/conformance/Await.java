package iolite.conformance;

import java.util.concurrent.Callable;
import java.util.function.Predicate;

/** Waits for a condition that nothing announces. */
final class Await {
    private static final long DEADLINE_NANOS = 30_000_000_000L;
    private static final long PAUSE_MILLIS = 20;

    static <T> T until(String what, Callable<T> get, Predicate<T> wanted) throws Exception {
        long deadline = System.nanoTime() + DEADLINE_NANOS;
        while (true) {
            T got = get.call();
            if (wanted.test(got)) {
                return got;
            }
            if (System.nanoTime() > deadline) {
                throw new AssertionError("no " + what + " in time; last seen: " + got);
            }
            Thread.sleep(PAUSE_MILLIS);
        }
    }

    private Await() {}
}
