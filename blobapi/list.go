package blobapi

import (
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"

	"github.com/iolite-emulator/iolite/store"
)

// maxResults is the largest page of blobs, and the one for who does not say (article "List Blobs").
const maxResults = 5000

// listBody is the answer to List Blobs.
type listBody struct {
	XMLName         xml.Name `xml:"EnumerationResults"`
	ServiceEndpoint string   `xml:",attr"`
	ContainerName   string   `xml:",attr"`
	Prefix          string   `xml:",omitempty"`
	Marker          string   `xml:",omitempty"`
	MaxResults      int      `xml:",omitempty"`
	Delimiter       string   `xml:",omitempty"`
	Blobs           struct {
		Blob       []blobShown
		BlobPrefix []prefixShown
	}
	NextMarker string
}

type prefixShown struct{ Name string }

type blobShown struct {
	Name       string
	Properties propertiesShown
	Metadata   *metadataShown `xml:",omitempty"`
}

type propertiesShown struct {
	CreationTime       string `xml:"Creation-Time"`
	LastModified       string `xml:"Last-Modified"`
	Etag               string
	ContentLength      int64  `xml:"Content-Length"`
	ContentType        string `xml:"Content-Type"`
	ContentEncoding    string `xml:"Content-Encoding"`
	ContentLanguage    string `xml:"Content-Language"`
	ContentMD5         string `xml:"Content-MD5"`
	CacheControl       string `xml:"Cache-Control"`
	ContentDisposition string `xml:"Content-Disposition"`
	BlobType           string
	AccessTier         string
	AccessTierInferred bool
	LeaseStatus        string
	LeaseState         string
	ServerEncrypted    bool
}

// metadataShown is an element for each property.
type metadataShown []store.Property

// MarshalXML implements xml.Marshaler.
func (m metadataShown) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	for _, p := range m {
		if err := e.EncodeElement(p.Value, xml.StartElement{Name: xml.Name{Local: p.Name}}); err != nil {
			return err
		}
	}
	return e.EncodeToken(start.End())
}

// listBlobs is GET ?restype=container&comp=list.
func (s *Server) listBlobs(w http.ResponseWriter, r *request) error {
	q := store.BlobQuery{Prefix: r.query.Get("prefix"), Delimiter: r.query.Get("delimiter"), Limit: maxResults}
	limit := 0
	if text := r.query.Get("maxresults"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 {
			return refuse(invalidQueryParameterValue, "maxresults")
		}
		q.Limit = min(limit, maxResults)
	}
	after, err := base64.URLEncoding.DecodeString(r.query.Get("marker"))
	if err != nil {
		return refuse(invalidQueryParameterValue, "marker")
	}
	q.After = string(after)
	page, err := s.blobs.ListBlobs(r.Context(), r.target.container, q)
	if err != nil {
		return notThere(err)
	}
	body := listBody{
		ServiceEndpoint: "https://" + r.Host + "/" + s.key.Account + "/", ContainerName: r.target.container,
		Prefix: q.Prefix, Marker: r.query.Get("marker"), MaxResults: limit, Delimiter: q.Delimiter,
		NextMarker: base64.URLEncoding.EncodeToString([]byte(page.Next)),
	}
	for i := range page.Blobs {
		body.Blobs.Blob = append(body.Blobs.Blob, showBlob(&page.Blobs[i], includes(r, "metadata")))
	}
	for _, name := range page.Prefixes {
		body.Blobs.BlobPrefix = append(body.Blobs.BlobPrefix, prefixShown{name})
	}
	writeXML(w, http.StatusOK, body)
	return nil
}

// includes reports whether a request asks for something more.
func includes(r *request, what string) bool {
	for part := range strings.SplitSeq(r.query.Get("include"), ",") {
		if strings.EqualFold(part, what) {
			return true
		}
	}
	return false
}

func showBlob(b *store.Blob, withMetadata bool) blobShown {
	shown := blobShown{Name: b.Name, Properties: propertiesShown{
		CreationTime: b.Created.UTC().Format(http.TimeFormat), LastModified: b.Modified.UTC().Format(http.TimeFormat), Etag: b.ETag,
		ContentLength: b.Size, ContentType: b.ContentType, ContentEncoding: b.ContentEncoding, ContentLanguage: b.ContentLanguage,
		ContentMD5: base64.StdEncoding.EncodeToString(b.ContentMD5), CacheControl: b.CacheControl, ContentDisposition: b.ContentDisposition,
		BlobType: "BlockBlob", AccessTier: "Hot", AccessTierInferred: true, LeaseStatus: "unlocked", LeaseState: "available",
	}}
	if withMetadata {
		shown.Metadata = new(metadataShown(b.Metadata))
	}
	return shown
}

// containersBody is the answer to List Containers.
type containersBody struct {
	XMLName         xml.Name `xml:"EnumerationResults"`
	ServiceEndpoint string   `xml:",attr"`
	Prefix          string   `xml:",omitempty"`
	Containers      struct{ Container []containerShown }
	NextMarker      string
}

type containerShown struct {
	Name       string
	Properties struct {
		LastModified string `xml:"Last-Modified"`
		Etag         string
		LeaseStatus  string
		LeaseState   string
	}
	Metadata *metadataShown `xml:",omitempty"`
}

// listContainers is GET /?comp=list. All come on one page.
func (s *Server) listContainers(w http.ResponseWriter, r *request) error {
	all, err := s.blobs.Containers(r.Context())
	if err != nil {
		return err
	}
	body := containersBody{ServiceEndpoint: "https://" + r.Host + "/" + s.key.Account + "/", Prefix: r.query.Get("prefix")}
	for _, c := range all {
		if !strings.HasPrefix(c.Name, body.Prefix) {
			continue
		}
		shown := containerShown{Name: c.Name}
		p := &shown.Properties
		p.LastModified, p.Etag, p.LeaseStatus, p.LeaseState = c.Modified.UTC().Format(http.TimeFormat), c.ETag, "unlocked", "available"
		if includes(r, "metadata") {
			shown.Metadata = new(metadataShown(c.Metadata))
		}
		body.Containers.Container = append(body.Containers.Container, shown)
	}
	writeXML(w, http.StatusOK, body)
	return nil
}
