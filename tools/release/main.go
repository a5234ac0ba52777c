// Command image writes an OCI image archive of the gateway, for the architectures of the binaries that
// it is given. The same binaries and settings make the same bytes, on any machine and without a
// container engine. Its twin for building from source is the Dockerfile.
package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// release is what all images of a release have in common.
type release struct {
	version, revision string
	created           time.Time
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	set := flag.NewFlagSet("image", flag.ContinueOnError)
	var r release
	set.StringVar(&r.version, "version", "", "version of the gateway")
	set.StringVar(&r.revision, "revision", "", "commit that it was built from")
	created := set.String("created", "", "time of that commit (RFC 3339)")
	out := set.String("out", "", "archive to write")
	if err := set.Parse(args); err != nil {
		return err
	}
	var err error
	if r.created, err = time.Parse(time.RFC3339, *created); err != nil {
		return fmt.Errorf("--created: %w", err)
	}
	if *out == "" || set.NArg() == 0 {
		return errors.New("usage: image --version V --revision R --created T --out FILE linux/amd64=BINARY …")
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arg := range set.Args() {
		platform, binary, _ := strings.Cut(arg, "=")
		one, err := r.image(platform, binary)
		if err != nil {
			return fmt.Errorf("%s: %w", platform, err)
		}
		index = mutate.AppendManifests(index, one)
	}
	return write(index, *out, r.created)
}

// image makes the image for one platform.
func (r release) image(platform, binary string) (mutate.IndexAddendum, error) {
	p, err := v1.ParsePlatform(platform)
	if err != nil {
		return mutate.IndexAddendum{}, err
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		return mutate.IndexAddendum{}, err
	}
	content, err := r.files(program)
	if err != nil {
		return mutate.IndexAddendum{}, err
	}
	layer, err := tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(9))
	if err != nil {
		return mutate.IndexAddendum{}, err
	}
	img, err := mutate.Append(mutate.MediaType(empty.Image, types.OCIManifestSchema1), mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: v1.Time{Time: r.created}, CreatedBy: "scripts/release"},
	})
	if err != nil {
		return mutate.IndexAddendum{}, err
	}
	c, err := img.ConfigFile()
	if err != nil {
		return mutate.IndexAddendum{}, err
	}
	img, err = mutate.ConfigFile(mutate.ConfigMediaType(img, types.OCIConfigJSON), r.config(c.DeepCopy(), p))
	if err != nil {
		return mutate.IndexAddendum{}, err
	}
	return mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: p}}, nil
}

// config adds to a configuration what the Dockerfile says of the image, too.
func (r release) config(c *v1.ConfigFile, p *v1.Platform) *v1.ConfigFile {
	c.Architecture, c.OS, c.Created = p.Architecture, p.OS, v1.Time{Time: r.created}
	c.Config = v1.Config{
		User:         "65532:65532",
		ExposedPorts: map[string]struct{}{"8080/tcp": {}, "9090/tcp": {}},
		Env:          []string{"ORGCAST_LISTEN=:8080", "ORGCAST_ADMIN_LISTEN=:9090"},
		StopSignal:   "SIGTERM",
		Healthcheck: &v1.HealthConfig{
			Test: []string{"CMD", "/gateway", "healthcheck"}, Interval: 10 * time.Second,
			Timeout: 6 * time.Second, StartPeriod: 10 * time.Second, Retries: 3,
		},
		Entrypoint: []string{"/gateway"},
		Cmd:        []string{"serve"},
		Labels: map[string]string{
			"org.opencontainers.image.title":       "Orgcast",
			"org.opencontainers.image.description": "WebSocket gateway for multi-tenant applications",
			"org.opencontainers.image.licenses":    "Apache-2.0",
			"org.opencontainers.image.version":     r.version,
			"org.opencontainers.image.revision":    r.revision,
			"org.opencontainers.image.created":     r.created.UTC().Format(time.RFC3339),
		},
	}
	return c
}

// files is the only layer: the program, and the roots that Mozilla trusts, for TLS to Redis and to
// the web application.
func (r release) files(program []byte) ([]byte, error) {
	var roots bytes.Buffer
	for root := range bundle.Roots() {
		if err := pem.Encode(&roots, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return nil, err
		}
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range []struct {
		name    string
		mode    int64
		content []byte
	}{
		{"etc/", 0o755, nil},
		{"etc/ssl/", 0o755, nil},
		{"etc/ssl/certs/", 0o755, nil},
		{"etc/ssl/certs/ca-certificates.crt", 0o644, roots.Bytes()},
		{"gateway", 0o755, program},
	} {
		if err := entry(w, f.name, f.mode, f.content, r.created); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// entry writes a file, or a folder if its name ends with a slash.
func entry(w *tar.Writer, name string, mode int64, content []byte, at time.Time) error {
	h := &tar.Header{Name: name, Mode: mode, Size: int64(len(content)), ModTime: at, Typeflag: tar.TypeReg, Format: tar.FormatPAX}
	if strings.HasSuffix(name, "/") {
		h.Typeflag = tar.TypeDir
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

// write writes an index as an archive with the layout of OCI images.
func write(index v1.ImageIndex, out string, at time.Time) error {
	dir, err := os.MkdirTemp("", "image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if _, err := layout.Write(dir, index); err != nil {
		return err
	}
	var names []string
	err = filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == dir {
			return err
		}
		name, err := filepath.Rel(dir, file)
		if d.IsDir() {
			name += "/"
		}
		names = append(names, filepath.ToSlash(name))
		return err
	})
	if err != nil {
		return err
	}
	slices.Sort(names)
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	for _, name := range names {
		var content []byte
		mode := int64(0o755)
		if !strings.HasSuffix(name, "/") {
			mode = 0o644
			if content, err = os.ReadFile(filepath.Join(dir, path.Clean(name))); err != nil {
				return err
			}
		}
		if err := entry(w, name, mode, content, at); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}
