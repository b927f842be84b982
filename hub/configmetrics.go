package hub

import (
	"context"
	"strings"

	"github.com/iolite-emulator/iolite/hub/query"
	"github.com/iolite-emulator/iolite/store"
)

// metricCount counts the rows of a metric.
type metricCount struct {
	query       *query.Query
	aggregation *query.Aggregation // nil unless the query aggregates
	result      *int
}

// count fills in the metrics of configurations: one pass over the devices, and one over the modules, for all of them.
func (h *Hub) count(ctx context.Context, list []Configuration) error {
	counters := map[query.Collection][]metricCount{}
	for i := range list {
		c := &list[i]
		c.SystemMetrics = systemMetrics(&c.Configuration)
		c.CustomMetrics = customMetrics(&c.Configuration)
		for _, metrics := range [][]Metric{c.SystemMetrics, c.CustomMetrics} {
			for j := range metrics {
				q, err := query.Parse(metrics[j].Query)
				if err != nil { // no condition
					continue
				}
				n := metricCount{query: q, result: &metrics[j].Result}
				if q.IsAggregate() {
					n.aggregation = q.Aggregate()
				}
				counters[q.From()] = append(counters[q.From()], n)
			}
		}
	}
	for _, collection := range []query.Collection{query.Devices, query.Modules} {
		if err := h.countRows(ctx, collection == query.Modules, counters[collection]); err != nil {
			return err
		}
	}
	return nil
}

// metricScan is how many twins are looked at in one go.
const metricScan = 256

func (h *Hub) countRows(ctx context.Context, modules bool, counters []metricCount) (err error) {
	if len(counters) == 0 {
		return nil
	}
	var rows []store.TwinRow
	for after := (store.Key{}); ; after = rows[len(rows)-1].Key {
		if rows, err = h.twins.Scan(ctx, modules, after, metricScan, rows[:0]); err != nil || len(rows) == 0 {
			break
		}
		for i := range rows {
			if err := ctx.Err(); err != nil {
				return err
			}
			completeTwin(&rows[i])
			countRow(h.queryRow(ctx, &rows[i]), counters)
		}
	}
	for _, c := range counters {
		if *c.result < 0 {
			continue
		}
		if c.aggregation != nil {
			*c.result = c.aggregation.Len()
		}
		if top, limited := c.query.Top(); limited {
			*c.result = min(*c.result, top)
		}
	}
	return err
}

// countRow counts a row for each query that selects it. One with too many groups is given up.
func countRow(row query.Row, counters []metricCount) {
	for i := range counters {
		c := &counters[i]
		switch {
		case *c.result < 0 || !c.query.Matches(row):
		case c.aggregation == nil:
			*c.result++
		case c.aggregation.Add(row) != nil:
			*c.result, c.aggregation = -1, nil // what it has gathered goes
		}
	}
}

// customMetrics are the metrics that a configuration brings, not counted yet.
func customMetrics(c *store.Configuration) (metrics []Metric) {
	for _, m := range c.Metrics.Members() {
		metrics = append(metrics, Metric{Name: m.Name, Query: m.Value.Text()})
	}
	return metrics
}

// systemMetrics are the metrics that every configuration of a kind has. Their queries are those of the real hub.
func systemMetrics(c *store.Configuration) []Metric {
	parsed, _ := parseContent(c.Content)
	switch parsed.kind {
	case edgeContent:
		agent := "select deviceId from devices.modules where moduleId = '$edgeAgent' and configurations.[[" + c.ID + "]].status = 'Applied'"
		reported := agent + " and properties.desired.$version = properties.reported.lastDesiredVersion and properties.reported.lastDesiredStatus.code "
		return []Metric{
			{Name: "appliedCount", Query: agent}, {Name: "reportedFailedCount", Query: reported + "!= 200"},
			{Name: "reportedSuccessfulCount", Query: reported + "= 200"},
			{Name: "targetedCount", Query: targetQuery("select deviceId from devices", "capabilities.iotEdge = true", c.TargetCondition)},
		}
	case moduleContent:
		return []Metric{
			{Name: "appliedCount", Query: "select deviceId, moduleId from devices.modules where configurations.[[" + c.ID + "]].status = 'Applied'"},
			{Name: "targetedCount", Query: targetQuery("select deviceId, moduleId from devices.modules", "", c.TargetCondition)},
		}
	case deviceContent:
	}
	return []Metric{
		{Name: "appliedCount", Query: "select deviceId from devices where configurations.[[" + c.ID + "]].status = 'Applied'"},
		{Name: "targetedCount", Query: targetQuery("select deviceId from devices", "", c.TargetCondition)},
	}
}

// targetQuery makes the query of targetedCount from a target condition: one that selects, beside it, what is always wanted. No condition has
// no query.
func targetQuery(selects, always, condition string) string {
	c, err := query.ParseCondition(condition)
	if err != nil || c.IsNone() {
		return ""
	}
	source, expression := c.Parts()
	if source != "" {
		before, _, _ := strings.Cut(selects, " from ")
		if always == "" {
			return before + " " + strings.TrimSpace(condition)
		}
		selects = before + " " + source
	}
	switch {
	case expression == "" && always == "":
		return selects
	case expression == "":
		return selects + " where " + always
	case always == "":
		return selects + " where " + expression
	}
	return selects + " where " + always + " and (" + expression + ")"
}
