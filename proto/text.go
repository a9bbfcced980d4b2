package proto

import (
	"strings"
	"unicode/utf8"

	goproto "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Clip makes a text fit for a protobuf string of at most most bytes: it is cut
// between runes, and bytes that are no UTF-8 become U+FFFD. Every text that is
// shortened, or that comes from a program or a peer, passes here: a string that
// is not UTF-8 makes the whole message around it impossible to encode.
func Clip(s string, most int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= most {
		return s
	}
	n := max(0, most)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Mend replaces what is no UTF-8 in every string of m, so that m can be
// encoded. Bytes fields are left as they are.
func Mend(m goproto.Message) { mend(m.ProtoReflect()) }

func mend(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil && f.Kind() != protoreflect.StringKind:
		case f.IsMap(): // the schema has none
		case f.IsList():
			for i, l := 0, v.List(); i < l.Len(); i++ {
				if f.Message() != nil {
					mend(l.Get(i).Message())
				} else if s, bad := mended(l.Get(i)); bad {
					l.Set(i, s)
				}
			}
		case f.Message() != nil:
			mend(v.Message())
		default:
			if s, bad := mended(v); bad {
				m.Set(f, s)
			}
		}
		return true
	})
}

func mended(v protoreflect.Value) (protoreflect.Value, bool) {
	if utf8.ValidString(v.String()) {
		return v, false
	}
	return protoreflect.ValueOfString(strings.ToValidUTF8(v.String(), "\uFFFD")), true
}
