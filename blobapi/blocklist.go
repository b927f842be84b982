package blobapi

import (
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/iolite-emulator/iolite/store"
)

// Limits of a block list (article "Put Block List"); one of 50,000 of the longest ids fits.
const (
	maxBlocks    = 50_000
	maxBlockList = 8 << 20
)

// putBlockList is PUT ?comp=blocklist: the blob becomes the listed blocks.
func (s *Server) putBlockList(w http.ResponseWriter, r *request) error {
	if _, err := length(r, maxBlockList); err != nil {
		return err
	}
	body, err := newChecked(r, false)
	if err != nil {
		return err
	}
	list, err := parseBlockList(body)
	if err != nil {
		return err
	}
	b, cond, err := newBlob(r, false)
	if err != nil {
		return err
	}
	if b, err = s.blobs.CommitBlocks(r.Context(), b, list, cond, r.now); err != nil {
		return overwriting(r, cond, err)
	}
	body.setChecksums(w.Header())
	return created(w, &b)
}

var sources = map[string]store.BlockSource{"Latest": store.BlockLatest, "Uncommitted": store.BlockUncommitted, "Committed": store.BlockCommitted}

// parseBlockList reads <BlockList> with <Latest>, <Committed> and <Uncommitted> in any order, to the end of the body.
func parseBlockList(body io.Reader) ([]store.BlockRef, error) {
	d := xml.NewDecoder(body)
	root, err := nextElement(d)
	if err != nil || root == nil || root.Name.Local != "BlockList" {
		return nil, badXML(err)
	}
	var list []store.BlockRef
	for {
		e, err := nextElement(d)
		if err != nil {
			return nil, badXML(err)
		}
		if e == nil {
			break
		}
		source, known := sources[e.Name.Local]
		if !known {
			return nil, refuse(invalidXMLDocument, "")
		}
		var text string
		if err := d.DecodeElement(&text, e); err != nil {
			return nil, badXML(err)
		}
		id, err := blockID(strings.TrimSpace(text))
		if err != nil {
			return nil, refuse(invalidBlockList, "")
		}
		if len(list) == maxBlocks {
			return nil, refuse(blockListTooLong, "")
		}
		list = append(list, store.BlockRef{ID: id, From: source})
	}
	if e, err := nextElement(d); !errors.Is(err, io.EOF) {
		if err == nil || e != nil {
			err = nil
		}
		return nil, badXML(err)
	}
	return list, nil
}

// nextElement returns the next element that begins, nil when the one around it ends. Directives, which could name entities, are refused.
func nextElement(d *xml.Decoder) (*xml.StartElement, error) {
	for {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		switch t := token.(type) {
		case xml.StartElement:
			return &t, nil
		case xml.EndElement:
			return nil, nil
		case xml.CharData:
			if strings.TrimSpace(string(t)) != "" {
				return nil, refuse(invalidXMLDocument, "")
			}
		case xml.Directive:
			return nil, refuse(invalidXMLDocument, "")
		}
	}
}

// badXML is the error of a document; what went wrong with the body it came in goes before.
func badXML(err error) error {
	if f := (*failure)(nil); errors.As(err, &f) {
		return err
	}
	var syntax *xml.SyntaxError
	if err == nil || errors.As(err, &syntax) || errors.Is(err, io.EOF) {
		return refuse(invalidXMLDocument, "")
	}
	return err
}

// blockListBody is the answer to Get Block List.
type blockListBody struct {
	XMLName     xml.Name     `xml:"BlockList"`
	Committed   *blocksShown `xml:"CommittedBlocks,omitempty"`
	Uncommitted *blocksShown `xml:"UncommittedBlocks,omitempty"`
}

type blocksShown struct {
	Blocks []blockShown `xml:"Block"`
}

type blockShown struct {
	Name string
	Size int64
}

// getBlockList is GET ?comp=blocklist.
func (s *Server) getBlockList(w http.ResponseWriter, r *request) error {
	kind := strings.ToLower(r.query.Get("blocklisttype"))
	if kind != "" && kind != "committed" && kind != "uncommitted" && kind != "all" {
		return refuse(invalidQueryParameterValue, "blocklisttype")
	}
	b, committed, uncommitted, err := s.blobs.Blocks(r.Context(), r.target.key(), r.now)
	if err != nil {
		return notThere(err)
	}
	h := w.Header()
	if b != nil {
		setTags(h, b.ETag, b.Modified)
		h["x-ms-blob-content-length"] = []string{strconv.FormatInt(b.Size, 10)}
	}
	var body blockListBody
	if kind != "uncommitted" {
		body.Committed = showBlocks(committed)
	}
	if kind == "uncommitted" || kind == "all" {
		body.Uncommitted = showBlocks(uncommitted)
	}
	writeXML(w, http.StatusOK, body)
	return nil
}

func showBlocks(list []store.Block) *blocksShown {
	shown := &blocksShown{}
	for _, b := range list {
		shown.Blocks = append(shown.Blocks, blockShown{base64.StdEncoding.EncodeToString([]byte(b.ID)), b.Size})
	}
	return shown
}
