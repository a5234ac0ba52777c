package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// dist is a release that scripts/release made.
var dist = flag.String("dist", "../../dist", "folder with the release to look at")

// maxImage is how many bytes of an image may be downloaded.
const maxImage = 8 << 20

func one(t *testing.T, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(*dist, pattern))
	if err != nil || len(names) != 1 {
		t.Fatalf("%s: %q, %v, want one file", pattern, names, err)
	}
	return names[0]
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	var errOut bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, out, errOut.String())
	}
	return string(out)
}

// unpack returns the files of a tar archive.
func unpack(t *testing.T, r io.Reader) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return files
		} else if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
	}
}

func gunzip(t *testing.T, content []byte) io.Reader {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// archived returns the files of the archive for a platform, such as linux-amd64, without their folder.
func archived(t *testing.T, platform string) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	for name, content := range unpack(t, gunzip(t, read(t, one(t, "orgcast-*-"+platform+".tar.gz")))) {
		_, name, _ = strings.Cut(name, "/")
		files[name] = content
	}
	return files
}

var platforms = []string{"linux-amd64", "linux-arm64", "darwin-amd64", "darwin-arm64"}

// TestChecksums: SHA256SUMS has every file of the release and no other.
func TestChecksums(t *testing.T) {
	want := make(map[string]string)
	for line := range strings.Lines(string(read(t, one(t, "SHA256SUMS")))) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		want[name] = sum
	}
	entries, err := os.ReadDir(*dist)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "SHA256SUMS" {
			continue
		}
		sum := sha256.Sum256(read(t, filepath.Join(*dist, e.Name())))
		if got := hex.EncodeToString(sum[:]); got != want[e.Name()] {
			t.Errorf("%s has the sum %s, not %q", e.Name(), got, want[e.Name()])
		}
		delete(want, e.Name())
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

// TestArchives: each has the program for its platform, without the demo, and the licenses.
func TestArchives(t *testing.T) {
	for _, platform := range platforms {
		files := archived(t, platform)
		for _, name := range []string{"gateway", "README.md", "CHANGELOG.md", "LICENSE", "NOTICE", "THIRD_PARTY_LICENSES"} {
			if len(files[name]) == 0 {
				t.Errorf("%s: %s is missing or empty", platform, name)
			}
		}
		info, err := buildinfo.Read(bytes.NewReader(files["gateway"]))
		if err != nil {
			t.Fatalf("%s: %v", platform, err)
		}
		system, arch, _ := strings.Cut(platform, "-")
		settings := make(map[string]string)
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
		if settings["GOOS"] != system || settings["GOARCH"] != arch || settings["CGO_ENABLED"] != "0" || settings["-tags"] != "nodemo" {
			t.Errorf("%s was built with %v", platform, settings)
		}
		for _, dep := range info.Deps {
			if strings.Contains(dep.Path, "miniredis") {
				t.Errorf("%s contains %s", platform, dep.Path)
			}
			if !bytes.Contains(files["THIRD_PARTY_LICENSES"], []byte("\n"+dep.Path+" "+dep.Version+"\n")) {
				t.Errorf("%s: the license of %s %s is missing", platform, dep.Path, dep.Version)
			}
		}
	}
}

// TestSBOM: the list of parts of each binary is the one that Go put into it.
func TestSBOM(t *testing.T) {
	for _, platform := range platforms {
		info, err := buildinfo.Read(bytes.NewReader(archived(t, platform)["gateway"]))
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, dep := range info.Deps {
			want = append(want, dep.Path+" "+dep.Version)
		}
		var sbom struct {
			Metadata   struct{ Timestamp time.Time }
			Components []struct{ Name, Version string }
		}
		if err := json.Unmarshal(read(t, one(t, "orgcast-*-"+platform+".cdx.json")), &sbom); err != nil {
			t.Fatal(err)
		}
		// The time of the commit: with any other, making it again would make another file.
		if at := sbom.Metadata.Timestamp; strconv.FormatInt(at.Unix(), 10) != strings.TrimSpace(output(t, "git", "log", "-1", "--format=%ct")) {
			t.Errorf("%s: the SBOM is of %v", platform, at)
		}
		var got []string
		for _, c := range sbom.Components {
			got = append(got, c.Name+" "+c.Version)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: the SBOM has\n%s\nand the binary\n%s", platform, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// TestVersion: the program of this platform says which release it is, and has no demo.
func TestVersion(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "gateway")
	if err := os.WriteFile(binary, archived(t, "linux-amd64")["gateway"], 0o700); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(output(t, binary, "version"), "\n")
	if name := filepath.Base(one(t, "orgcast-*-linux-amd64.tar.gz")); name != "orgcast-"+lines[0]+"-linux-amd64.tar.gz" {
		t.Errorf("the archive %s has version %s", name, lines[0])
	}
	head := strings.TrimSpace(output(t, "git", "rev-parse", "HEAD"))
	if !slices.Contains(lines, "revision: "+head) {
		t.Errorf("no revision %s in %q", head, lines)
	}
	if out, err := exec.CommandContext(t.Context(), binary, "demo").CombinedOutput(); err == nil || !bytes.Contains(out, []byte(`unknown subcommand "demo"`)) {
		t.Errorf("demo: %v: %s", err, out)
	}
}

// TestPackages: the deb and the rpm contain what the unit needs, and folders can be entered.
func TestPackages(t *testing.T) {
	paths := []string{
		"/usr/bin/gateway", "/etc/orgcast/orgcast.yaml", "/usr/lib/systemd/system/orgcast.service",
		"/usr/lib/sysusers.d/orgcast.conf", "/usr/share/doc/orgcast/THIRD_PARTY_LICENSES",
	}
	for _, arch := range []string{"amd64", "arm64"} {
		deb := one(t, "orgcast_*_"+arch+".deb")
		listed := output(t, "dpkg-deb", "--contents", deb)
		for _, path := range paths {
			if !strings.Contains(listed, " ."+path+"\n") {
				t.Errorf("%s: %s is missing:\n%s", deb, path, listed)
			}
		}
		for line := range strings.Lines(listed) {
			if mode := strings.Fields(line)[0]; strings.HasPrefix(mode, "d") && mode != "drwxr-xr-x" && !strings.Contains(line, "./etc/orgcast/") {
				t.Errorf("%s: %s", deb, line)
			}
		}
		if conf := output(t, "dpkg-deb", "--info", deb, "conffiles"); conf != "/etc/orgcast/orgcast.yaml\n" {
			t.Errorf("%s keeps %q over an upgrade", deb, conf)
		}
	}
	for _, arch := range []string{"x86_64", "aarch64"} {
		rpm := one(t, "orgcast-*."+arch+".rpm")
		listed := output(t, "rpm", "-qpl", "--nosignature", rpm)
		for _, path := range paths {
			if !slices.Contains(strings.Split(listed, "\n"), path) {
				t.Errorf("%s: %s is missing:\n%s", rpm, path, listed)
			}
		}
	}
}

// TestUnit: systemd gives the unit an exposure of at most 2.0, as it is in the package.
func TestUnit(t *testing.T) {
	dir := t.TempDir()
	output(t, "dpkg-deb", "--extract", one(t, "orgcast_*_amd64.deb"), dir)
	output(t, "systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", filepath.Join(dir, "usr/lib/systemd/system/orgcast.service"))
}

// TestImage: the image has both architectures, its labels, a user that is not root, and nothing but
// the program and certificates. The same binaries make the same image.
func TestImage(t *testing.T) {
	archive := one(t, "orgcast-*-image.tar")
	files := unpack(t, bytes.NewReader(read(t, archive)))
	blob := func(digest string) []byte {
		algorithm, sum, _ := strings.Cut(digest, ":")
		content, there := files["blobs/"+algorithm+"/"+sum]
		if !there {
			t.Fatalf("no blob %s", digest)
		}
		return content
	}
	decode := func(content []byte, to any) {
		t.Helper()
		if err := json.Unmarshal(content, to); err != nil {
			t.Fatal(err)
		}
	}
	type descriptor struct {
		Digest   string
		Size     int
		Platform struct{ OS, Architecture string }
	}
	var index struct{ Manifests []descriptor }
	decode(files["index.json"], &index)
	var found, binaries []string
	var r struct{ version, revision, created string }
	for _, m := range index.Manifests {
		var manifest struct {
			Config descriptor
			Layers []descriptor
		}
		decode(blob(m.Digest), &manifest)
		var config struct {
			Config struct {
				User       string
				Entrypoint []string
				Labels     map[string]string
			}
		}
		decode(blob(manifest.Config.Digest), &config)
		if config.Config.User != "65532:65532" || !slices.Equal(config.Config.Entrypoint, []string{"/gateway"}) {
			t.Errorf("%v: %+v", m.Platform, config.Config)
		}
		label := func(name string) string { return config.Config.Labels["org.opencontainers.image."+name] }
		r.version, r.revision, r.created = label("version"), label("revision"), label("created")
		if label("licenses") != "Apache-2.0" || r.revision != strings.TrimSpace(output(t, "git", "rev-parse", "HEAD")) {
			t.Errorf("labels: %v", config.Config.Labels)
		}
		if len(manifest.Layers) != 1 || manifest.Layers[0].Size > maxImage {
			t.Fatalf("%v: layers %+v, want one below %d bytes", m.Platform, manifest.Layers, maxImage)
		}
		layer := unpack(t, gunzip(t, blob(manifest.Layers[0].Digest)))
		if len(layer) != 5 || len(layer["gateway"]) == 0 || bytes.Count(layer["etc/ssl/certs/ca-certificates.crt"], []byte("BEGIN CERTIFICATE")) < 100 {
			t.Errorf("%v: the layer has %d entries", m.Platform, len(layer))
		}
		platform := m.Platform.OS + "/" + m.Platform.Architecture
		if !bytes.Equal(layer["gateway"], archived(t, strings.Replace(platform, "/", "-", 1))["gateway"]) {
			t.Errorf("%s: the image has another program than the archive", platform)
		}
		binary := filepath.Join(t.TempDir(), "gateway")
		if err := os.WriteFile(binary, layer["gateway"], 0o600); err != nil {
			t.Fatal(err)
		}
		found, binaries = append(found, platform), append(binaries, platform+"="+binary)
		t.Logf("%s: %.1f MiB to download", platform, float64(manifest.Layers[0].Size)/(1<<20))
	}
	if !slices.Equal(found, []string{"linux/amd64", "linux/arm64"}) {
		t.Errorf("the image has %q", found)
	}

	again := filepath.Join(t.TempDir(), "again.tar")
	args := append([]string{"--version", r.version, "--revision", r.revision, "--created", r.created, "--out", again}, binaries...)
	if err := run(args); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprintf("%x", sha256.Sum256(read(t, again))), fmt.Sprintf("%x", sha256.Sum256(read(t, archive))); got != want {
		t.Errorf("made again, the image is %s and not %s", got, want)
	}
}

// TestChart: the chart has the version of the release, everything that Helm needs, the rules themselves
// instead of a link to them, and no time of day; Helm renders it.
func TestChart(t *testing.T) {
	sums := string(read(t, one(t, "SHA256SUMS")))
	name := one(t, "orgcast-*.tgz")
	if !strings.Contains(sums, filepath.Base(name)) {
		t.Errorf("SHA256SUMS does not have %s", filepath.Base(name))
	}
	version := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), "orgcast-"), ".tgz")
	one(t, "orgcast-"+version+"-linux-amd64.tar.gz") // of the same version
	files := unpack(t, gunzip(t, read(t, name)))
	for _, line := range []string{"name: orgcast", "version: " + version, "appVersion: " + version} {
		if !strings.Contains("\n"+string(files["orgcast/Chart.yaml"]), "\n"+line+"\n") {
			t.Errorf("Chart.yaml: got\n%s\nwant %q", files["orgcast/Chart.yaml"], line)
		}
	}
	if got, want := files["orgcast/files/rules.yaml"], read(t, "../../deploy/monitoring/rules.yaml"); !bytes.Equal(got, want) {
		t.Errorf("rules.yaml: got %d bytes, want those of deploy/monitoring", len(got))
	}
	epoch := strings.TrimSpace(output(t, "git", "log", "-1", "--format=%ct"))
	for archive := tar.NewReader(gunzip(t, read(t, name))); ; {
		h, err := archive.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if got := strconv.FormatInt(h.ModTime.Unix(), 10); got != epoch {
			t.Errorf("%s: got the time %s, want that of the commit, %s", h.Name, got, epoch)
		}
	}
	helm := filepath.Join(t.TempDir(), "helm")
	output(t, "go", "build", "-C", "../kube", "-o", helm, "helm.sh/helm/v3/cmd/helm")
	rendered := output(t, helm, "template", "web", name, "--kube-version", "1.30.0", "--set", "image.repository=registry.example.com/orgcast/gateway,image.tag="+version,
		"--set", "config.origins={https://app.example.com}", "--set", "config.redis=redis://redis:6379/0")
	for _, want := range []string{"helm.sh/chart: orgcast-" + version, "image: \"registry.example.com/orgcast/gateway:" + version + "\"", "kind: Deployment"} {
		if !strings.Contains(rendered, want) {
			t.Errorf("helm template: no %q in\n%s", want, rendered)
		}
	}
}
