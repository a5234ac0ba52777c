package cli

import (
	"orgcast/internal/config"
)

// declareJWT declares the settings of the store that reads tokens.
func (s *settings) declareJWT(set *config.Set) {
	j := &s.JWT
	set.String(&j.KeysURL, "jwt-jwks-url", "", "with --session-store=jwt: URL of the identity provider's public keys (JWKS); they are fetched again every 5 minutes while tokens come, and when a token names an unknown key, at most once in 10 s", checkURL)
	set.String(&j.Issuer, "jwt-issuer", "", "with --session-store=jwt: claim iss that each token must have", nil)
	set.String(&j.Audience, "jwt-audience", "", "with --session-store=jwt: what must be in the claim aud of each token", nil)
	set.String(&j.UserClaim, "jwt-user-claim", "sub", "claim with the user id", nil)
	set.String(&j.OrganizationClaim, "jwt-organization-claim", "org_id", "claim with the active organization", nil)
	set.String(&j.RoleClaim, "jwt-role-claim", "role", "claim with the role, a text; counts with --directory=session", nil)
	set.String(&j.SessionClaim, "jwt-session-claim", "sid", "claim that names the session, for revocations; a token without it is a session of its own", nil)
}
