package amqpsrv

import (
	"bytes"
	"errors"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
)

// SASL implements amqp10.Peer. Trap 2: MSSBCBS is ANONYMOUS by another name; who the peer is comes by $cbs or from its
// certificate. Peers that skip the SASL layer (trap 1) never get here.
func (p *peer) SASL(mechanism string, response []byte) amqp10.SASLCode {
	switch mechanism {
	case "MSSBCBS", "ANONYMOUS":
		return amqp10.SASLOK
	case "PLAIN":
		return p.saslPlain(response)
	case "EXTERNAL":
		if p.certificates() == nil {
			p.log.Error("SASL EXTERNAL without a client certificate", "category", hub.Connections)
			return amqp10.SASLAuth
		}
		return amqp10.SASLOK
	}
	return amqp10.SASLSysPerm
}

func (p *peer) saslPlain(response []byte) amqp10.SASLCode {
	user, password, err := plainResponse(response)
	if err != nil {
		p.log.Error("SASL PLAIN refused", "category", hub.Connections, "error", err)
		return amqp10.SASLAuth
	}
	principal, err := p.srv.hub.AuthenticatePlain(p.ctx, user, password)
	if err != nil {
		return p.saslRefusal(err)
	}
	p.grants.put(principal)
	return amqp10.SASLOK
}

func (p *peer) saslRefusal(err error) amqp10.SASLCode {
	if p.answer(err).Code == hub.CodeServerError {
		return amqp10.SASLSysTemp
	}
	return amqp10.SASLAuth
}

// plainResponse takes "authzid NUL authcid NUL password" apart (RFC 4616). The authorisation identity is ignored: it may only
// repeat the other.
func plainResponse(response []byte) (user, password string, err error) {
	parts := bytes.Split(response, []byte{0})
	if len(parts) != 3 {
		return "", "", errors.New("the response is not authzid NUL authcid NUL password")
	}
	return string(parts[1]), string(parts[2]), nil
}
