// Package client talks to the control API of a running hub.
package client

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/iolite-emulator/iolite/control"
	"github.com/iolite-emulator/iolite/hub"
)

const (
	timeout   = 30 * time.Second
	maxAnswer = 64 << 20 // bytes
)

// Client is a client of one control API.
type Client struct {
	address string
	http    http.Client
}

// New returns a client of the API at address, "host:port". An address that means every interface is dialled on loopback.
func New(address string) *Client {
	if host, port, err := net.SplitHostPort(address); err == nil {
		switch ip := net.ParseIP(host); {
		case host == "" || ip.Equal(net.IPv4zero):
			address = net.JoinHostPort("127.0.0.1", port)
		case ip.Equal(net.IPv6unspecified):
			address = net.JoinHostPort("::1", port)
		}
	}
	return &Client{address: address, http: http.Client{Timeout: timeout}}
}

// Ready returns nil when the hub is ready for clients.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.call(ctx, http.MethodGet, "/readyz", nil, nil)
	return err
}

// Info describes the hub.
func (c *Client) Info(ctx context.Context) (info control.Info, err error) {
	_, err = c.call(ctx, http.MethodGet, "/iolite/v1/info", nil, &info)
	return info, err
}

// Roots returns a pool with the hub's development CA.
func (c *Client) Roots(ctx context.Context) (*x509.CertPool, error) {
	text, err := c.call(ctx, http.MethodGet, "/iolite/v1/ca.pem", nil, nil)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New("the hub's CA is not a PEM certificate")
	}
	return pool, nil
}

// AddCAs registers the CA certificates of a PEM text to sign device certificates, and returns them.
func (c *Client) AddCAs(ctx context.Context, pem []byte) ([]control.CA, error) {
	var added control.CAs
	_, err := c.send(ctx, http.MethodPost, "/iolite/v1/cas", bytes.NewReader(pem), "application/x-pem-file", &added)
	return added.CAs, err
}

// Violations lists the HTTP poll violations.
func (c *Client) Violations(ctx context.Context) (v control.Violations, err error) {
	_, err = c.call(ctx, http.MethodGet, "/iolite/v1/violations", nil, &v)
	return v, err
}

// ClearViolations forgets them.
func (c *Client) ClearViolations(ctx context.Context) error {
	_, err := c.call(ctx, http.MethodDelete, "/iolite/v1/violations", nil, nil)
	return err
}

// Clock returns the hub's time.
func (c *Client) Clock(ctx context.Context) (s control.ClockState, err error) {
	_, err = c.call(ctx, http.MethodGet, "/iolite/v1/clock", nil, &s)
	return s, err
}

// Advance moves the hub's clock and returns when every expiry on the way has been dealt with.
func (c *Client) Advance(ctx context.Context, d time.Duration) (s control.ClockState, err error) {
	_, err = c.call(ctx, http.MethodPost, "/iolite/v1/clock", control.ClockChange{Advance: d.String()}, &s)
	return s, err
}

// Reset empties the hub and loads its seeds again.
func (c *Client) Reset(ctx context.Context) error {
	_, err := c.call(ctx, http.MethodPost, "/iolite/v1/reset", nil, nil)
	return err
}

// Events returns what GET /iolite/v1/events answers to a query; control.Event says what is in it. A timeout in the query must be shorter
// than 30 seconds.
func (c *Client) Events(ctx context.Context, query url.Values) (e control.Events, err error) {
	_, err = c.call(ctx, http.MethodGet, "/iolite/v1/events?"+query.Encode(), nil, &e)
	return e, err
}

// EventHubs lists the built-in Event Hubs-compatible endpoint and the other event hubs of the process.
func (c *Client) EventHubs(ctx context.Context) ([]control.EventHub, error) {
	var list control.EventHubs
	_, err := c.call(ctx, http.MethodGet, "/iolite/v1/eventhubs", nil, &list)
	return list.EventHubs, err
}

// PutEventHub makes an event hub beside the built-in endpoint, or adds consumer groups to one.
func (c *Client) PutEventHub(ctx context.Context, name string, change control.EventHubChange) (e control.EventHub, err error) {
	_, err = c.call(ctx, http.MethodPut, "/iolite/v1/eventhubs/"+url.PathEscape(name), change, &e)
	return e, err
}

// DeleteEventHub forgets an event hub and its events.
func (c *Client) DeleteEventHub(ctx context.Context, name string) error {
	_, err := c.call(ctx, http.MethodDelete, "/iolite/v1/eventhubs/"+url.PathEscape(name), nil, nil)
	return err
}

// ConsumerGroup tells about a consumer group and who reads for it.
func (c *Client) ConsumerGroup(ctx context.Context, eventHub, group string) (g control.ConsumerGroup, err error) {
	_, err = c.call(ctx, http.MethodGet, groupPath(eventHub, group), nil, &g)
	return g, err
}

// PutConsumerGroup makes a consumer group unless there is one.
func (c *Client) PutConsumerGroup(ctx context.Context, eventHub, group string) error {
	_, err := c.call(ctx, http.MethodPut, groupPath(eventHub, group), nil, nil)
	return err
}

// DeleteConsumerGroup forgets a consumer group and ends its readers.
func (c *Client) DeleteConsumerGroup(ctx context.Context, eventHub, group string) error {
	_, err := c.call(ctx, http.MethodDelete, groupPath(eventHub, group), nil, nil)
	return err
}

func groupPath(eventHub, group string) string {
	return "/iolite/v1/eventhubs/" + url.PathEscape(eventHub) + "/consumergroups/" + url.PathEscape(group)
}

// Routing returns where messages go.
func (c *Client) Routing(ctx context.Context) (r hub.Routing, err error) {
	_, err = c.call(ctx, http.MethodGet, "/iolite/v1/routing", nil, &r)
	return r, err
}

// SetRouting replaces the whole routing, and returns it with all defaults filled in.
func (c *Client) SetRouting(ctx context.Context, to hub.Routing) (r hub.Routing, err error) {
	_, err = c.call(ctx, http.MethodPut, "/iolite/v1/routing", to, &r)
	return r, err
}

// EndpointHealth returns the health of the custom endpoints.
func (c *Client) EndpointHealth(ctx context.Context) (e control.EndpointHealth, err error) {
	_, err = c.call(ctx, http.MethodGet, "/iolite/v1/routing/health", nil, &e)
	return e, err
}

// TestRoutes says which routes a message would match.
func (c *Client) TestRoutes(ctx context.Context, test hub.RouteTest) (r control.RouteTestResult, err error) {
	_, err = c.call(ctx, http.MethodPost, "/iolite/v1/routing/test", test, &r)
	return r, err
}

// TestRoute says whether a message would match a route that need not be there.
func (c *Client) TestRoute(ctx context.Context, test hub.OneRouteTest) (r control.OneRouteTestResult, err error) {
	_, err = c.call(ctx, http.MethodPost, "/iolite/v1/routing/testroute", test, &r)
	return r, err
}

// Connections lists the connected devices and modules.
func (c *Client) Connections(ctx context.Context) ([]control.Connection, error) {
	var list control.Connections
	_, err := c.call(ctx, http.MethodGet, "/iolite/v1/connections", nil, &list)
	return list.Connections, err
}

// Disconnect cuts the connections of a device and returns how many sessions ended.
func (c *Client) Disconnect(ctx context.Context, deviceID string) (int, error) {
	var d control.Disconnected
	_, err := c.call(ctx, http.MethodDelete, "/iolite/v1/connections/"+url.PathEscape(deviceID), nil, &d)
	return d.Disconnected, err
}

// call does one request; an answer that is no success is an error with the hub's own words.
func (c *Client) call(ctx context.Context, method, path string, in, out any) ([]byte, error) {
	if in == nil {
		return c.send(ctx, method, path, nil, "", out)
	}
	var body bytes.Buffer
	if err := json.NewEncoder(&body).Encode(in); err != nil {
		return nil, err
	}
	return c.send(ctx, method, path, &body, "application/json", out)
}

func (c *Client) send(ctx context.Context, method, path string, body io.Reader, contentType string, out any) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+c.address+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("no hub answers at %s: %w", c.address, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if response.StatusCode/100 != 2 {
		return nil, problem(request, response, text)
	}
	if out == nil {
		return text, nil
	}
	return text, json.Unmarshal(text, out)
}

func problem(request *http.Request, response *http.Response, text []byte) error {
	var p control.Problem
	if json.Unmarshal(text, &p) == nil && p.Error != "" {
		return fmt.Errorf("%s %s: %s: %s", request.Method, request.URL.Path, response.Status, p.Error)
	}
	return fmt.Errorf("%s %s: %s", request.Method, request.URL.Path, response.Status)
}
