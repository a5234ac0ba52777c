package pickle

// IsClass reports whether an object stands for a class or function itself.
func (o *Object) IsClass() bool { return o.class }
