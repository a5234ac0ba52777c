package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// TLSServer is a server that also accepts TLS from clients with a certificate.
type TLSServer struct {
	*Server

	// TLSAddr is an address in 127.0.0.1, which is the name in the server's certificate.
	TLSAddr string
	// CA signed the certificates of server and client. Cert and Key are the client's. All are
	// files.
	CA, Cert, Key string
}

// StartTLS is [StartServer] with TLS.
func StartTLS(tb testing.TB, args ...string) *TLSServer {
	tb.Helper()
	dir := tb.TempDir()
	s := &TLSServer{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "client.pem"), Key: filepath.Join(dir, "client.key")}
	serverCert, serverKey := filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key")

	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	authorityKey := newKey(tb)
	writeCertificate(tb, s.CA, authority, authority, &authorityKey.PublicKey, authorityKey)
	for i, one := range []struct {
		cert, key string
		usage     x509.ExtKeyUsage
	}{{serverCert, serverKey, x509.ExtKeyUsageServerAuth}, {s.Cert, s.Key, x509.ExtKeyUsageClientAuth}} {
		key := newKey(tb)
		writeCertificate(tb, one.cert, &x509.Certificate{
			SerialNumber: big.NewInt(int64(i) + 2), NotAfter: authority.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{one.usage},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}, authority, &key.PublicKey, authorityKey)
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			tb.Fatal(err)
		}
		writePEM(tb, one.key, "PRIVATE KEY", der)
	}
	for s.TLSAddr == "" || !portFree(s.TLSAddr) {
		s.TLSAddr = net.JoinHostPort("127.0.0.1", strconv.Itoa(firstPort+mathrand.IntN(lastPort-firstPort))) //nolint:gosec // a port is no secret
	}
	_, port, err := net.SplitHostPort(s.TLSAddr)
	if err != nil {
		tb.Fatal(err)
	}
	s.Server = StartServer(tb, append([]string{
		"--tls-port", port, "--tls-cert-file", serverCert, "--tls-key-file", serverKey, "--tls-ca-cert-file", s.CA,
	}, args...)...)
	return s
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func writeCertificate(tb testing.TB, file string, certificate, parent *x509.Certificate, public *ecdsa.PublicKey, signer *ecdsa.PrivateKey) {
	tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, certificate, parent, public, signer)
	if err != nil {
		tb.Fatal(err)
	}
	writePEM(tb, file, "CERTIFICATE", der)
}

func writePEM(tb testing.TB, file, kind string, der []byte) {
	tb.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		tb.Fatal(err)
	}
}
