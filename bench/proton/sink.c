// A sink of AMQP 1.0 on Qpid Proton C: it lets everybody in, takes every link, accepts and settles every message, and forgets it.
// One thread, TLS on every connection. The least that AMQP costs with a library in C, to compare with.
//
//	sink HOST:PORT CERTIFICATE.pem KEY.pem

#include <stdio.h>
#include <stdlib.h>

#include <proton/condition.h>
#include <proton/connection.h>
#include <proton/delivery.h>
#include <proton/link.h>
#include <proton/listener.h>
#include <proton/proactor.h>
#include <proton/sasl.h>
#include <proton/session.h>
#include <proton/ssl.h>
#include <proton/terminus.h>
#include <proton/transport.h>

// Credit of a link; it is renewed when half of it is used.
enum { CREDIT = 1000 };

// accept_connection begins TLS on a connection that came, and asks for no name.
static void accept_connection(pn_listener_t *listener, pn_ssl_domain_t *domain) {
	pn_transport_t *transport = pn_transport();
	pn_transport_set_server(transport);
	pn_transport_require_auth(transport, false);
	pn_sasl_allowed_mechs(pn_sasl(transport), "ANONYMOUS");
	if (pn_ssl_init(pn_ssl(transport), domain, NULL) != 0) {
		fprintf(stderr, "sink: TLS cannot begin\n");
		exit(1);
	}
	pn_transport_require_encryption(transport, true); // after pn_ssl_init, which allows its absence
	pn_listener_accept2(listener, NULL, transport);
}

// open_link takes a link as it was asked for, and grants credit on it if the peer sends.
static void open_link(pn_link_t *link) {
	pn_terminus_copy(pn_link_source(link), pn_link_remote_source(link));
	pn_terminus_copy(pn_link_target(link), pn_link_remote_target(link));
	pn_link_open(link);
	if (pn_link_is_receiver(link)) {
		pn_link_flow(link, CREDIT);
	}
}

// take accepts a message once it is complete. Settling forgets its bytes.
static void take(pn_delivery_t *delivery) {
	pn_link_t *link = pn_delivery_link(delivery);
	if (!pn_link_is_receiver(link) || !pn_delivery_readable(delivery) || pn_delivery_partial(delivery)) {
		return;
	}
	pn_delivery_update(delivery, PN_ACCEPTED);
	pn_delivery_settle(delivery);
	int credit = pn_link_credit(link);
	if (credit <= CREDIT / 2) {
		pn_link_flow(link, CREDIT - credit);
	}
}

static void handle(pn_event_t *event, pn_ssl_domain_t *domain) {
	switch (pn_event_type(event)) {
	case PN_LISTENER_ACCEPT:
		accept_connection(pn_event_listener(event), domain);
		break;
	case PN_LISTENER_CLOSE: {
		pn_condition_t *why = pn_listener_condition(pn_event_listener(event));
		fprintf(stderr, "sink: %s: %s\n", pn_condition_get_name(why), pn_condition_get_description(why));
		exit(1);
	}
	case PN_CONNECTION_INIT:
		pn_connection_set_container(pn_event_connection(event), "sink");
		break;
	case PN_CONNECTION_REMOTE_OPEN:
		pn_connection_open(pn_event_connection(event));
		break;
	case PN_SESSION_REMOTE_OPEN:
		pn_session_open(pn_event_session(event));
		break;
	case PN_LINK_REMOTE_OPEN:
		open_link(pn_event_link(event));
		break;
	case PN_DELIVERY:
		take(pn_event_delivery(event));
		break;
	case PN_LINK_REMOTE_CLOSE:
	case PN_LINK_REMOTE_DETACH:
		pn_link_close(pn_event_link(event));
		break;
	case PN_SESSION_REMOTE_CLOSE:
		pn_session_close(pn_event_session(event));
		break;
	case PN_CONNECTION_REMOTE_CLOSE:
		pn_connection_close(pn_event_connection(event));
		break;
	default:
		break;
	}
}

int main(int argc, char **argv) {
	if (argc != 4) {
		fprintf(stderr, "usage: sink HOST:PORT CERTIFICATE.pem KEY.pem\n");
		return 2;
	}
	pn_ssl_domain_t *domain = pn_ssl_domain(PN_SSL_MODE_SERVER);
	if (domain == NULL || pn_ssl_domain_set_credentials(domain, argv[2], argv[3], NULL) != 0 || pn_ssl_domain_set_protocols(domain, "TLSv1.3") != 0) {
		fprintf(stderr, "sink: no TLS 1.3 with %s and %s\n", argv[2], argv[3]);
		return 1;
	}
	pn_proactor_t *proactor = pn_proactor();
	pn_proactor_listen(proactor, pn_listener(), argv[1], 128);
	for (;;) { // until a signal ends the process
		pn_event_batch_t *batch = pn_proactor_wait(proactor);
		for (pn_event_t *event = pn_event_batch_next(batch); event != NULL; event = pn_event_batch_next(batch)) {
			handle(event, domain);
		}
		pn_proactor_done(proactor, batch);
	}
}
