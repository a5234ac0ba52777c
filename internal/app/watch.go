package app

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"time"

	"go.uber.org/zap"

	"orgcast/internal/redisclient"
)

const (
	// watchInterval is how often the files of certificates are read. A renewal leaves days for it,
	// and reading a few kilobytes costs nothing.
	watchInterval = 5 * time.Second
	// maxCertificate is how much of a file is read, far more than a chain of certificates has.
	maxCertificate = 1 << 20
)

// certificateFiles returns the files that hold certificates and their keys.
func (o *Options) certificateFiles() (files []string) {
	for _, path := range []string{o.TLSCert, o.TLSKey} {
		if path != "" {
			files = append(files, path)
		}
	}
	for _, r := range []redisclient.Options{o.Redis, o.State, o.Layer} {
		for _, path := range []string{r.CA, r.Cert, r.Key} {
			if path != "" {
				files = append(files, path)
			}
		}
	}
	return files
}

// watch applies new certificates when their files change, until ctx ends. It compares what the
// files contain. Notifications of the system would not be enough: Kubernetes replaces a link in the
// path and not the file, network file systems send none, and a certificate and its key usually
// change one after the other.
func (r *reloader) watch(ctx context.Context) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	seen := digest(r.options().certificateFiles()) // what was read at the start, unless it changed since
	var refused [sha256.Size]byte                  // a state of the files that was not valid
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := digest(r.options().certificateFiles())
		if now == seen {
			continue
		}
		err := r.refresh()
		switch {
		case err == nil:
			seen = now
		case refused != now: // one of two files may be new already, and the other one next time
			refused = now
		default:
			seen = now // until it changes again
			r.metrics.certificates.WithLabelValues(reloadFailed).Inc()
			r.log.Error("certificates not valid, previous ones stay in effect", zap.Error(err))
		}
	}
}

// digest returns a hash of files and of what they contain.
func digest(files []string) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, path := range files {
		text, err := readUpTo(path, maxCertificate)
		_, _ = fmt.Fprintf(h, "%q %q %v\n", path, text, err) // a hash takes everything
	}
	h.Sum(sum[:0])
	return sum
}

func readUpTo(path string, most int64) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	return io.ReadAll(io.LimitReader(f, most))
}
