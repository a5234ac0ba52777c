package app

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// secretVolume is a folder as Kubernetes mounts a Secret: tls.crt and tls.key are links through
// ..data, which leads to a folder with a version.
type secretVolume struct {
	t   *testing.T
	dir string
}

// put makes a version the current one, as the kubelet does: by replacing the link ..data.
func (v *secretVolume) put(version, cert, key string) {
	v.t.Helper()
	inside := filepath.Join(v.dir, version)
	err := errors.Join(
		os.MkdirAll(inside, 0o700),
		os.WriteFile(filepath.Join(inside, "tls.crt"), []byte(cert), 0o600),
		os.WriteFile(filepath.Join(inside, "tls.key"), []byte(key), 0o600),
		os.Symlink(version, filepath.Join(v.dir, "..new")),
		os.Rename(filepath.Join(v.dir, "..new"), filepath.Join(v.dir, "..data")),
	)
	past := time.Unix(1, 0) // modification times say nothing
	for _, name := range []string{"tls.crt", "tls.key"} {
		err = errors.Join(err, os.Chtimes(filepath.Join(inside, name), past, past))
	}
	if err != nil {
		v.t.Fatal(err)
	}
}

// TestCertificatesAreTakenUp: a change of the link ..data is found, files that do not fit each other
// are passed over while they change, and reported once if they stay so; then the previous ones are
// in use until the files are right.
func TestCertificatesAreTakenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &secretVolume{t, t.TempDir()}
		v.put("1", "a", "a")
		for _, name := range []string{"tls.crt", "tls.key"} {
			if err := os.Symlink(filepath.Join("..data", name), filepath.Join(v.dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		o := &Options{TLSCert: filepath.Join(v.dir, "tls.crt"), TLSKey: filepath.Join(v.dir, "tls.key")}
		current, others := "", 0
		steps := new(reloadSteps)
		steps.add(func(*Options) (func(), error) { others++; return nil, nil })
		steps.addCertificates(func(o *Options) (func(), error) {
			cert, err1 := os.ReadFile(o.TLSCert)
			key, err2 := os.ReadFile(o.TLSKey)
			if err := errors.Join(err1, err2); err != nil || string(cert) != string(key) {
				return nil, errors.Join(err, errors.New("they do not fit"))
			}
			return func() { current = string(cert) }, nil
		})
		core, logs := observer.New(zap.InfoLevel)
		r := &reloader{steps: steps, log: zap.New(core), metrics: newReloadMetrics(prometheus.NewRegistry()), current: o}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.watch(ctx) }()
		after := func(want, logged string) {
			t.Helper()
			time.Sleep(watchInterval + time.Second) // of the bubble's clock
			synctest.Wait()
			var got []string
			for _, e := range logs.TakeAll() {
				got = append(got, e.Message)
			}
			if current != want || strings.Join(got, ";") != logged {
				t.Errorf("got %q in use and the log %q, want %q and %q", current, got, want, logged)
			}
		}
		const ok, failed = "certificates reloaded", "certificates not valid, previous ones stay in effect"
		after("", "")
		v.put("2", "b", "b")
		after("b", ok)
		after("b", "")
		v.put("3", "c", "b") // the key comes later
		after("b", "")
		v.put("4", "c", "c")
		after("c", ok)
		v.put("5", "d", "c")
		after("c", "")
		after("c", failed)
		after("c", "")
		if err := os.Remove(filepath.Join(v.dir, "..data")); err != nil {
			t.Fatal(err)
		}
		after("c", "")
		after("c", failed)
		v.put("6", "e", "e")
		after("e", ok)
		if others != 0 {
			t.Errorf("other parts were reloaded %d times", others)
		}
		cancel()
		<-done
	})
}
