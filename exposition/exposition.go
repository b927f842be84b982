// Package exposition writes metrics in the text format of Prometheus, version 0.0.4
// (https://prometheus.io/docs/instrumenting/exposition_formats/). Whoever counts keeps plain numbers; they become text when somebody scrapes.
package exposition

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// ContentType is the media type of a page.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// Family is what all series of one name have in common.
type Family struct {
	Name   string
	Help   string
	Labels []string // the labels' names
}

// Page is one scrape. The zero value is an empty page. It is not safe for concurrent use.
type Page struct{ families map[string]*family }

type family struct {
	kind, help string
	series     []series
}

// series is one series of a family and its lines: a histogram has many.
type series struct{ labels, lines string }

// Counter adds a series that only grows; labels are the values of the family's labels.
func (p *Page) Counter(f Family, value float64, labels ...string) {
	p.add(f, "counter", labels, func(b []byte, labels string) []byte { return sample(b, f.Name, labels, value) })
}

// Gauge adds a series that goes up and down.
func (p *Page) Gauge(f Family, value float64, labels ...string) {
	p.add(f, "gauge", labels, func(b []byte, labels string) []byte { return sample(b, f.Name, labels, value) })
}

// Summary adds a summary without quantiles: how many values there were, and their sum.
func (p *Page) Summary(f Family, count uint64, sum float64, labels ...string) {
	p.add(f, "summary", labels, func(b []byte, labels string) []byte {
		return sample(sample(b, f.Name+"_sum", labels, sum), f.Name+"_count", labels, float64(count))
	})
}

// Histogram adds a histogram. counts are how many values were in each bucket: at most bounds[i], and more than the bound before; the last one,
// which has no bound, are those above.
func (p *Page) Histogram(f Family, bounds []float64, counts []uint64, sum float64, labels ...string) {
	if len(counts) != len(bounds)+1 {
		panic(fmt.Sprintf("exposition: %s has %d bounds and %d buckets", f.Name, len(bounds), len(counts)))
	}
	p.add(f, "histogram", labels, func(b []byte, labels string) []byte {
		total := uint64(0)
		for i, n := range counts {
			bound := "+Inf"
			if i < len(bounds) {
				bound = strconv.FormatFloat(bounds[i], 'g', -1, 64)
			}
			total += n
			b = sample(b, f.Name+"_bucket", join(labels, label("le", bound)), float64(total))
		}
		return sample(sample(b, f.Name+"_sum", labels, sum), f.Name+"_count", labels, float64(total))
	})
}

// add has write append the lines of a series, whose labels it is given as text.
func (p *Page) add(f Family, kind string, values []string, write func(b []byte, labels string) []byte) {
	if len(values) != len(f.Labels) {
		panic(fmt.Sprintf("exposition: %s has the labels %v, not the values %v", f.Name, f.Labels, values))
	}
	if p.families == nil {
		p.families = map[string]*family{}
	}
	all := p.families[f.Name]
	if all == nil {
		all = &family{kind: kind, help: f.Help}
		p.families[f.Name] = all
	}
	pairs := make([]string, len(values))
	for i, v := range values {
		pairs[i] = label(f.Labels[i], v)
	}
	slices.Sort(pairs) // by name, as Prometheus's own libraries do
	labels := strings.Join(pairs, ",")
	all.series = append(all.series, series{labels, string(write(nil, labels))})
}

// sample appends one line.
func sample(b []byte, name, labels string, value float64) []byte {
	b = append(b, name...)
	if labels != "" {
		b = append(append(append(b, '{'), labels...), '}')
	}
	return append(strconv.AppendFloat(append(b, ' '), value, 'g', -1, 64), '\n')
}

var (
	labelEscapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
	helpEscapes  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
)

func label(name, value string) string { return name + `="` + labelEscapes.Replace(value) + `"` }

func join(labels, more string) string {
	if labels == "" {
		return more
	}
	return labels + "," + more
}

// WriteTo implements io.WriterTo: families by name, and their series by the values of their labels.
func (p *Page) WriteTo(w io.Writer) (int64, error) {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(p.families)) {
		f := p.families[name]
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, helpEscapes.Replace(f.help), name, f.kind)
		slices.SortStableFunc(f.series, func(x, y series) int { return strings.Compare(x.labels, y.labels) })
		for _, s := range f.series {
			b.WriteString(s.lines)
		}
	}
	return b.WriteTo(w)
}
