package query

import (
	"cmp"
	"math"
	"math/bits"
	"strconv"

	"github.com/iolite-emulator/iolite/document"
)

// number is a number in one form only, so that equal numbers are equal structs: whole ones of 64 bits as integers, all others as floats.
type number struct {
	whole bool
	i     int64
	f     float64 // 0 when whole
}

func ofInt(i int64) number { return number{whole: true, i: i} }

// ofFloat returns f; ok is false for infinities and what is no number.
func ofFloat(f float64) (n number, ok bool) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return number{}, false
	}
	if f == math.Trunc(f) && f >= -0x1p63 && f < 0x1p63 {
		return ofInt(int64(f)), true
	}
	return number{f: f}, true
}

func (n number) float() float64 {
	if n.whole {
		return float64(n.i)
	}
	return n.f
}

func (n number) compare(m number) int {
	if n.whole && m.whole {
		return cmp.Compare(n.i, m.i)
	}
	return cmp.Compare(n.float(), m.float())
}

func (n number) document() document.Value {
	if n.whole {
		return document.OfInt(n.i)
	}
	return document.OfFloat(n.f)
}

func (n number) add(m number) (number, bool) {
	if sum := n.i + m.i; n.whole && m.whole && (sum > n.i) == (m.i > 0) {
		return ofInt(sum), true
	}
	return ofFloat(n.float() + m.float())
}

func (n number) subtract(m number) (number, bool) {
	if difference := n.i - m.i; n.whole && m.whole && (difference < n.i) == (m.i > 0) {
		return ofInt(difference), true
	}
	return ofFloat(n.float() - m.float())
}

func (n number) multiply(m number) (number, bool) {
	if n.whole && m.whole && n.i > math.MinInt64 && m.i > math.MinInt64 {
		high, low := bits.Mul64(uint64(max(n.i, -n.i)), uint64(max(m.i, -m.i)))
		if high == 0 && low <= math.MaxInt64 {
			return ofInt(n.i * m.i), true
		}
	}
	return ofFloat(n.float() * m.float())
}

func (n number) divide(m number) (number, bool) { return ofFloat(n.float() / m.float()) }

func (n number) modulo(m number) (number, bool) {
	if n.whole && m.whole && m.i != 0 {
		if m.i == -1 {
			return ofInt(0), true
		}
		return ofInt(n.i % m.i), true
	}
	return ofFloat(math.Mod(n.float(), m.float()))
}

// parseDecimal reads a number as JSON writes it; leading zeros are allowed. ok is false for anything else, and for one beyond float64.
func parseDecimal(s string) (n number, ok bool) {
	whole, ok := isDecimal(s)
	if !ok {
		return number{}, false
	}
	if whole && len(s) <= 18 { // shorter than any overflow, whose error would cost memory
		i, err := strconv.ParseInt(s, 10, 64)
		return ofInt(i), err == nil
	}
	if whole {
		if i, err := strconv.ParseInt(s, 10, 64); err == nil {
			return ofInt(i), true
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return number{}, false
	}
	return ofFloat(f)
}

// isDecimal reports whether s is [-]digits[.digits][e[+-]digits], and whether it stops after the first digits.
func isDecimal(s string) (whole, ok bool) {
	if s != "" && s[0] == '-' {
		s = s[1:]
	}
	if s, ok = digits(s); !ok || s == "" {
		return true, ok
	}
	if s[0] == '.' {
		if s, ok = digits(s[1:]); !ok {
			return false, false
		}
	}
	if s != "" && (s[0] == 'e' || s[0] == 'E') {
		s = s[1:]
		if s != "" && (s[0] == '+' || s[0] == '-') {
			s = s[1:]
		}
		if s, ok = digits(s); !ok {
			return false, false
		}
	}
	return false, s == ""
}

// digits takes one or more digits off s.
func digits(s string) (rest string, ok bool) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return s[i:], i > 0
}

// parseHex reads hexadecimal digits, at most 64 bits of them.
func parseHex(s string) (n number, ok bool) {
	u, err := strconv.ParseUint(s, 16, 64)
	if err != nil {
		return number{}, false
	}
	if u > math.MaxInt64 {
		return ofFloat(float64(u))
	}
	return ofInt(int64(u)), true
}
