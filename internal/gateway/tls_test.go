package gateway_test

import (
	"context"
	"crypto/tls"
	"flag"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"

	"orgcast/internal/socket"
	"orgcast/internal/testkit"
)

// overTLS lets the nodes of all tests listen for TLS, except those on a pipe.
var overTLS = flag.Bool("tls", false, "run the tests over TLS")

// tlsConfigs returns what both sides need.
var tlsConfigs = sync.OnceValues(func() (server, client *tls.Config) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	transport, _ := s.Client().Transport.(*http.Transport)
	server = &tls.Config{Certificates: s.TLS.Certificates, MinVersion: tls.VersionTLS12, DynamicRecordSizingDisabled: true}
	return server, &tls.Config{RootCAs: transport.TLSClientConfig.RootCAs, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS13}
})

// underTLS returns the listener of a server that listens for TLS as the public listener does.
func underTLS(l net.Listener) net.Listener {
	server, _ := tlsConfigs()
	return tls.NewListener(socket.ListenUnderTLS(l), server)
}

// dialTLS dials with TLS.
func dialTLS(dial testkit.DialFunc) testkit.DialFunc {
	_, client := tlsConfigs()
	return func(ctx context.Context) (net.Conn, error) {
		c, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		return tls.Client(c, client), nil
	}
}

// asAsked returns a dial function for a listener of [node.listen] that was not asked for TLS.
func asAsked(dial testkit.DialFunc) testkit.DialFunc {
	if *overTLS {
		return dialTLS(dial)
	}
	return dial
}
