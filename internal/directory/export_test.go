package directory

// DecodeObject and EncodeObject are what is done with the text of an object.
var (
	DecodeObject = decodeObject
	EncodeObject = encodeObject
)
