package django

// Base62 is base62.
var Base62 = base62
