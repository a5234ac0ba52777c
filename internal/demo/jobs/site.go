package jobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// maxPages is the most pages that one job fetches.
	maxPages = 50
	// defaultPages is how many it fetches by default.
	defaultPages = 20
	// maxPage is how much of a page is read, in bytes.
	maxPage = 512 << 10
	// maxAddress is the longest address that is followed, in bytes.
	maxAddress = 500
	// pageTimeout bounds one request to the demo itself, which normally takes a millisecond.
	pageTimeout = 5 * time.Second
	// siteTimeout bounds all requests of one job, without the pauses for people.
	siteTimeout = time.Minute
)

// errForeignURL is returned for an address outside the site.
var errForeignURL = errors.New("jobs: address of another origin")

// site fetches pages of one origin only, whatever pages and redirects say.
type site struct {
	origin *url.URL
	client *http.Client
	spent  time.Duration // total time of requests
}

// newSite returns a site for one job, which may be used by one goroutine.
func newSite(origin *url.URL) *site {
	s := &site{origin: origin}
	address := origin.Host
	if origin.Port() == "" {
		address = net.JoinHostPort(origin.Hostname(), map[string]string{"http": "80", "https": "443"}[origin.Scheme])
	}
	s.client = &http.Client{
		Timeout: pageTimeout,
		Transport: &http.Transport{
			// Neither a proxy from the environment nor DNS can change the server.
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, address)
			},
			DisableKeepAlives: true, MaxResponseHeaderBytes: 32 << 10,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if !s.owns(r.URL) {
				return errForeignURL
			}
			if len(via) >= 5 {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
	return s
}

// owns reports whether an address is a page of the site that may be fetched, which endpoints may
// not.
func (s *site) owns(u *url.URL) bool {
	return ownPage(s.origin, u)
}

func ownPage(origin, u *url.URL) bool {
	endpoint := slices.ContainsFunc([]string{"/ws/", "/sse/", "/demo/", "/seat/"}, func(prefix string) bool {
		return strings.HasPrefix(u.Path, prefix)
	})
	return u.Scheme == origin.Scheme && u.Host == origin.Host && u.User == nil && u.Opaque == "" && !endpoint
}

// resolve turns a requested address into one of the site. Empty means the home page.
func resolve(origin *url.URL, text string) (*url.URL, error) {
	u, err := origin.Parse(text)
	if err != nil {
		return nil, errForeignURL
	}
	u.Fragment, u.RawFragment = "", ""
	if u.Path == "" {
		u.Path = "/"
	}
	if !ownPage(origin, u) {
		return nil, errForeignURL
	}
	return u, nil
}

// errUnfetched is returned, wrapped, if not even the first page could be fetched.
var errUnfetched = errors.New("jobs: first page not fetched")

// errSlow is returned when the time for all requests is used up.
var errSlow = errors.New("jobs: the site takes too long")

// fetched is the response to a request.
type fetched struct {
	url    *url.URL // after redirects
	status int
	bytes  int
	took   time.Duration
	page   *page // nil if it is not HTML
}

// fetch gets one page.
func (s *site) fetch(ctx context.Context, u *url.URL) (*fetched, error) {
	if !s.owns(u) {
		return nil, errForeignURL
	}
	if s.spent >= siteTimeout {
		return nil, errSlow
	}
	begun := time.Now()
	defer func() { s.spent += time.Since(begun) }()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "orgcast-demo")
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // the body was only read
	body, err := io.ReadAll(io.LimitReader(response.Body, maxPage))
	if err != nil {
		return nil, err
	}
	f := &fetched{url: response.Request.URL, status: response.StatusCode, bytes: len(body), took: time.Since(begun)}
	if mediaType, _, _ := strings.Cut(response.Header.Get("Content-Type"), ";"); strings.TrimSpace(mediaType) == "text/html" {
		f.page = parsePage(bytes.NewReader(body))
	}
	return f, nil
}

// walk fetches pages from the first one on, following their links, each once and at most limit of
// them. For each page, it calls visit, with the number of addresses known by then. Only an error of
// visit, or of the first page, ends it early.
func (s *site) walk(ctx context.Context, first *url.URL, limit int, visit func(u *url.URL, f *fetched, err error, known int) error) error {
	if limit <= 0 {
		limit = defaultPages
	}
	limit = min(limit, maxPages)
	known := map[string]bool{first.String(): true}
	queue := []*url.URL{first}
	for n := 0; n < len(queue) && n < limit; n++ {
		f, err := s.fetch(ctx, queue[n])
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if n == 0 && err != nil {
			return fmt.Errorf("%w: %w", errUnfetched, err)
		}
		if err == nil && f.page != nil && f.status == http.StatusOK {
			for _, link := range f.page.links {
				u, err := resolve(f.url, link)
				if err != nil || known[u.String()] || len(u.String()) > maxAddress || len(queue) >= 10*maxPages {
					continue
				}
				known[u.String()] = true
				queue = append(queue, u)
			}
		}
		if err := visit(queue[n], f, err, min(len(queue), limit)); err != nil {
			return err
		}
	}
	return nil
}
