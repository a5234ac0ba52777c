package testkit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Name and audience of an [Issuer].
const (
	IssuerName = "https://id.example.com/"
	Audience   = "https://app.example.com"
)

// Issuer is an identity provider: it signs tokens with ES256, and shows its public keys over HTTP.
type Issuer struct {
	mu      sync.Mutex
	keys    map[string]*ecdsa.PrivateKey
	current string
	extra   []any // more entries of the key set
	away    bool
	fetches int
}

var _ http.Handler = (*Issuer)(nil)

// NewIssuer returns an Issuer with one key.
func NewIssuer() *Issuer {
	i := &Issuer{keys: make(map[string]*ecdsa.PrivateKey)}
	i.Rotate()
	return i
}

// Rotate signs with a new key from now on. Previous keys still count.
func (i *Issuer) Rotate() (kid string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // never: see crypto/rand
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.current = fmt.Sprintf("key-%d", len(i.keys)+1)
	i.keys[i.current] = key
	return i.current
}

// Withdraw removes a key from the set that it shows.
func (i *Issuer) Withdraw(kid string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.keys, kid)
}

// AddKey shows another entry in the set.
func (i *Issuer) AddKey(jwk map[string]any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.extra = append(i.extra, jwk)
}

// SetAway sets whether the set is unavailable.
func (i *Issuer) SetAway(away bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.away = away
}

// Fetches returns how often the set was fetched.
func (i *Issuer) Fetches() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

// Set returns the public keys in JSON.
func (i *Issuer) Set() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	list := slices.Clone(i.extra)
	for kid, key := range i.keys {
		point, err := key.PublicKey.Bytes() // 4, x and y
		if err != nil {
			panic(err)
		}
		list = append(list, map[string]any{
			"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid,
			"x": base64.RawURLEncoding.EncodeToString(point[1:33]), "y": base64.RawURLEncoding.EncodeToString(point[33:]),
		})
	}
	text, err := json.Marshal(map[string]any{"keys": list})
	if err != nil {
		panic(err) // every value in it has a JSON form
	}
	return text
}

// ServeHTTP shows the public keys.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	i.fetches++
	away := i.away
	i.mu.Unlock()
	if away {
		http.Error(w, "maintenance", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(i.Set()) // the client may be gone
}

// Claims returns those of a token. org may be empty.
func Claims(user, org string, end time.Time) map[string]any {
	c := map[string]any{"iss": IssuerName, "aud": Audience, "sub": user, "exp": end.Unix()}
	if org != "" {
		c["org_id"] = org
	}
	return c
}

// Token signs claims with the current key. Those of more win.
func (i *Issuer) Token(claims map[string]any, more ...map[string]any) string {
	all := jwt.MapClaims{}
	for _, c := range append([]map[string]any{claims}, more...) {
		maps.Copy(all, c)
	}
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	i.mu.Lock()
	kid, key := i.current, i.keys[i.current]
	i.mu.Unlock()
	token := jwt.NewWithClaims(jwt.SigningMethodES256, all)
	token.Header["kid"] = kid
	text, err := token.SignedString(key)
	if err != nil {
		panic(err)
	}
	return text
}
