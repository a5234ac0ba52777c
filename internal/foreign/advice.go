package foreign

// about says of each kind what to call it, and which page helps.
var about = map[Kind]struct{ title, page string }{ //nolint:gochecknoglobals // a table
	Django:        {"a session key of Django", "docs/django.md"},
	DjangoSigned:  {"a signed session of Django", "docs/django.md"},
	Rails:         {"an encrypted session of Rails", "docs/rails.md"},
	RailsSigned:   {"a signed session of Rails", "docs/rails.md"},
	Express:       {"a session key of Express", "docs/express.md"},
	Laravel:       {"an encrypted session key of Laravel", "docs/laravel.md"},
	IronSession:   {"a sealed session of iron-session", "docs/nextjs.md"},
	JWT:           {"a JSON Web Token", "docs/protocol.md"},
	JWTEncrypted:  {"an encrypted token, such as of Auth.js", "docs/integrate.md"},
	Gorilla:       {"a signed session of gorilla/sessions", "docs/protocol.md"},
	OrgcastRecord: {"a key of a session that Orgcast keeps in Redis", "docs/protocol.md"},
}

// Title returns what a cookie of the kind is, such as "a session key of Django".
func (k Kind) Title() string { return about[k].title }

// Page returns the page that helps.
func (k Kind) Page() string { return about[k].page }

// asked is the advice for every kind.
const asked = "with --session-store=http, and --session-cookie naming it, the gateway asks your site whose it is"

// Advice says what to set so that a cookie of the kind is understood.
func (k Kind) Advice() string {
	switch k {
	case "":
		return ""
	case Django:
		return asked + "; --session-store=django-cache reads it itself if the site keeps its sessions in a Redis cache (" + k.Page() + ")"
	case DjangoSigned:
		return asked + "; --session-store=django-signed reads it itself, with the site's SECRET_KEY (" + k.Page() + ")"
	case JWT:
		return "--session-store=jwt reads it if the client sends it as a token and not in a cookie; " + asked + " (" + k.Page() + ")"
	case Gorilla:
		return "--session-store=cookie reads it, with the keys and the cookie name with which it was signed (" + k.Page() + ")"
	case OrgcastRecord:
		return "--session-store=redis reads it (" + k.Page() + ")"
	default:
		return "no store reads it itself; " + asked + " (" + k.Page() + ")"
	}
}
