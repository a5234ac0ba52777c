package directory

// DecodeObject and EncodeObject convert the text of an object.
var (
	DecodeObject = decodeObject
	EncodeObject = encodeObject
)
