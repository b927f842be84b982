package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"
)

var (
	blobStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	always    BlobCondition
	blobKey   = BlobKey{"c", "d/a.txt"}
)

// onBlobs runs a test on both engines, each with a container c.
func onBlobs(t *testing.T, limit int64, test func(t *testing.T, l *LocalBlobs)) {
	t.Helper()
	disk := func(t *testing.T) *LocalBlobs {
		l, err := OpenDiskBlobs(t.TempDir(), limit)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { wantNoError(t, l.Close()) })
		return l
	}
	for name, open := range map[string]func(*testing.T) *LocalBlobs{
		"memory": func(*testing.T) *LocalBlobs { return NewMemoryBlobs(limit) }, "disk": disk,
	} {
		t.Run(name, func(t *testing.T) {
			l := open(t)
			if _, err := l.CreateContainer(ctx, "c", nil, blobStart); err != nil {
				t.Fatal(err)
			}
			test(t, l)
		})
	}
}

func putBlob(l *LocalBlobs, key BlobKey, text string) error {
	_, err := l.PutBlob(ctx, Blob{BlobKey: key, Size: int64(len(text))}, strings.NewReader(text), nil, always, blobStart)
	return err
}

func putBlock(l *LocalBlobs, key BlobKey, id, text string) error {
	return l.PutBlock(ctx, key, Block{id, int64(len(text))}, strings.NewReader(text), blobStart)
}

func commit(l *LocalBlobs, key BlobKey, ids ...string) error {
	var list []BlockRef
	for _, id := range ids {
		list = append(list, BlockRef{ID: id})
	}
	_, err := l.CommitBlocks(ctx, Blob{BlobKey: key}, list, always, blobStart)
	return err
}

func readBlob(t fataler, l *LocalBlobs, key BlobKey, offset, length int64) string {
	t.Helper()
	_, r, err := l.OpenBlob(ctx, key, offset, length)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fataler is a test or a property test.
type fataler interface {
	Helper()
	Fatal(args ...any)
}

func wantNoError(t fataler, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func wantUsed(t testing.TB, l *LocalBlobs, want int64) {
	t.Helper()
	if used, _, _ := l.Usage(ctx); used != want {
		t.Errorf("%d bytes are counted, want %d", used, want)
	}
}

func TestBlocksBecomeABlobInTheOrderOfTheList(t *testing.T) {
	onBlobs(t, 1<<20, func(t *testing.T, l *LocalBlobs) {
		wantNoError(t, putBlock(l, blobKey, "2", "two."), putBlock(l, blobKey, "1", "one."), putBlock(l, blobKey, "3", "never listed"))
		if _, err := l.Blob(ctx, blobKey); !errors.Is(err, ErrNotFound) {
			t.Errorf("blocks make a blob: %v", err)
		}
		if err := commit(l, blobKey, "1", "9"); !errors.Is(err, ErrNoBlock) {
			t.Errorf("an unknown block: %v", err)
		}
		wantNoError(t, commit(l, blobKey, "1", "2", "1"))
		if got := readBlob(t, l, blobKey, 0, 100); got != "one.two.one." {
			t.Errorf("%q", got)
		}
		// What is committed can be listed again; the block that was not listed is gone.
		wantNoError(t, putBlock(l, blobKey, "2", "TWO."))
		if err := commit(l, blobKey, "3"); !errors.Is(err, ErrNoBlock) {
			t.Errorf("a block that was not listed: %v", err)
		}
		wantNoError(t, commit(l, blobKey, "2", "1"))
		if got := readBlob(t, l, blobKey, 0, 100); got != "TWO.one." {
			t.Errorf("%q", got)
		}
	})
}

func TestBlockSources(t *testing.T) {
	onBlobs(t, 1<<20, func(t *testing.T, l *LocalBlobs) {
		wantNoError(t, putBlock(l, blobKey, "1", "old"), commit(l, blobKey, "1"), putBlock(l, blobKey, "1", "new"))
		for from, want := range map[BlockSource]string{BlockCommitted: "old", BlockUncommitted: "new", BlockLatest: "new"} {
			c := l.containers["c"]
			blocks, err := c.find(blobKey.Name, []BlockRef{{"1", from}})
			wantNoError(t, err)
			r, err := blocks[0].open(0, 3)
			wantNoError(t, err)
			text, _ := io.ReadAll(r)
			_ = r.Close()
			if string(text) != want {
				t.Errorf("source %d: %s", from, text)
			}
		}
		blob, committed, uncommitted, err := l.Blocks(ctx, blobKey, blobStart)
		if err != nil || blob == nil || len(committed) != 1 || len(uncommitted) != 1 {
			t.Errorf("%v %v %v %v", blob, committed, uncommitted, err)
		}
	})
}

func TestBodiesThatFailChangeNothing(t *testing.T) {
	onBlobs(t, 4<<20, func(t *testing.T, l *LocalBlobs) {
		wantNoError(t, putBlob(l, blobKey, "before"))
		used, _, _ := l.Usage(ctx)
		broken := errors.New("checksum")
		for name, body := range map[string]io.Reader{
			"short": strings.NewReader("short"), "long": strings.NewReader(strings.Repeat("x", 3<<20)),
			"broken at its end": io.MultiReader(strings.NewReader(strings.Repeat("x", 2<<20)), iotest.ErrReader(broken)),
		} {
			_, err := l.PutBlob(ctx, Blob{BlobKey: blobKey, Size: 2 << 20}, body, nil, always, blobStart)
			if err == nil || strings.HasPrefix(name, "broken") && !errors.Is(err, broken) {
				t.Errorf("%s: %v", name, err)
			}
		}
		wantUsed(t, l, used)
		if got := readBlob(t, l, blobKey, 0, 100); got != "before" {
			t.Errorf("%q", got)
		}
	})
}

func TestSpaceIsBounded(t *testing.T) {
	onBlobs(t, 3<<20, func(t *testing.T, l *LocalBlobs) {
		empty, _, _ := l.Usage(ctx)
		big := strings.Repeat("x", 2<<20)
		wantNoError(t, putBlock(l, blobKey, "1", big))
		if err := putBlob(l, BlobKey{"c", "other"}, big); !errors.Is(err, ErrNoSpace) {
			t.Fatalf("uncommitted blocks count: %v", err)
		}
		// Abandoned blocks give way when somebody needs the space.
		_, err := l.PutBlob(ctx, Blob{BlobKey: BlobKey{"c", "other"}, Size: 2 << 20}, strings.NewReader(big), nil, always, blobStart.Add(time.Hour))
		wantNoError(t, err, l.DeleteBlob(ctx, BlobKey{"c", "other"}, always))
		wantUsed(t, l, empty)
	})
}

func TestUncommittedBlocksLastAWeek(t *testing.T) {
	onBlobs(t, 1<<20, func(t *testing.T, l *LocalBlobs) {
		empty, _, _ := l.Usage(ctx)
		wantNoError(t, putBlock(l, blobKey, "1", "x"))
		if _, _, _, err := l.Blocks(ctx, blobKey, blobStart.Add(stagedLife-time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := l.Blocks(ctx, blobKey, blobStart.Add(stagedLife)); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		wantUsed(t, l, empty)
	})
}

func TestCommitWithoutSpaceKeepsTheBlocksItIsOf(t *testing.T) {
	staged := blobCost("c", nil) + blobCost("d/a.txt", nil) + blockOverhead + 2
	onBlobs(t, staged, func(t *testing.T, l *LocalBlobs) {
		wantNoError(t, putBlock(l, blobKey, "1", "ab"))
		_, err := l.CommitBlocks(ctx, Blob{BlobKey: blobKey}, []BlockRef{{ID: "1"}}, always, blobStart.Add(2*stagedLifeCrammed))
		wantNoError(t, err)
		if got := readBlob(t, l, blobKey, 0, 9); got != "ab" {
			t.Errorf("the blob is %q, not ab", got)
		}
		wantUsed(t, l, staged)
	})
}

func TestReadersKeepWhatTheyOpened(t *testing.T) {
	onBlobs(t, 8<<20, func(t *testing.T, l *LocalBlobs) {
		old := strings.Repeat("o", 3<<20)
		wantNoError(t, putBlock(l, blobKey, "1", "begin"), putBlock(l, blobKey, "2", old), commit(l, blobKey, "1", "2"))
		_, r, err := l.OpenBlob(ctx, blobKey, 0, 100<<20)
		wantNoError(t, err, putBlob(l, blobKey, "new"), l.Reset(ctx))
		text, err := io.ReadAll(r)
		wantNoError(t, err, r.Close())
		if string(text) != "begin"+old {
			t.Errorf("%d bytes", len(text))
		}
		wantUsed(t, l, 0)
	})
}

func TestResetForgetsWhatIsUnderWay(t *testing.T) {
	onBlobs(t, 1<<20, func(t *testing.T, l *LocalBlobs) {
		body := io.MultiReader(strings.NewReader("ab"), readerFunc(func() {
			wantNoError(t, l.Reset(ctx))
			_, err := l.CreateContainer(ctx, "c", nil, blobStart)
			wantNoError(t, err)
		}))
		if _, err := l.PutBlob(ctx, Blob{BlobKey: blobKey, Size: 2}, body, nil, always, blobStart); !errors.Is(err, ErrNoContainer) {
			t.Errorf("%v", err)
		}
		if _, err := l.Blob(ctx, blobKey); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v", err)
		}
		wantUsed(t, l, blobOverhead+1)
	})
}

type readerFunc func()

func (f readerFunc) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

func TestConditions(t *testing.T) {
	onBlobs(t, 1<<20, func(t *testing.T, l *LocalBlobs) {
		put := func(c BlobCondition) error {
			_, err := l.PutBlob(ctx, Blob{BlobKey: blobKey, Size: 1}, strings.NewReader("x"), nil, c, blobStart.Add(time.Minute))
			return err
		}
		if err := put(BlobCondition{IfMatch: "*"}); !errors.Is(err, ErrConflict) {
			t.Errorf("If-Match without a blob: %v", err)
		}
		wantNoError(t, put(BlobCondition{IfNoneMatch: "*"}))
		b, err := l.Blob(ctx, blobKey)
		wantNoError(t, err)
		for _, c := range []BlobCondition{{IfNoneMatch: "*"}, {IfMatch: "other"}, {IfNoneMatch: b.ETag}, {IfUnmodifiedSince: blobStart}, {IfModifiedSince: blobStart.Add(time.Hour)}} {
			if err := put(c); !errors.Is(err, ErrConflict) {
				t.Errorf("%+v: %v", c, err)
			}
			if err := l.DeleteBlob(ctx, blobKey, c); !errors.Is(err, ErrConflict) {
				t.Errorf("delete with %+v: %v", c, err)
			}
		}
		wantNoError(t, put(BlobCondition{IfMatch: b.ETag, IfModifiedSince: blobStart}))
		if again, _ := l.Blob(ctx, blobKey); again.ETag == b.ETag || !again.Created.Equal(b.Created) {
			t.Errorf("%+v after %+v", again, b)
		}
	})
}

func TestBlockIDsOfABlobHaveOneLength(t *testing.T) {
	onBlobs(t, 1<<20, func(t *testing.T, l *LocalBlobs) {
		wantNoError(t, putBlock(l, blobKey, "1", "x"))
		if err := putBlock(l, blobKey, "22", "x"); !errors.Is(err, ErrBlockID) {
			t.Errorf("%v", err)
		}
		wantNoError(t, putBlock(l, blobKey, "1", "again"), commit(l, blobKey, "1"))
		if got := readBlob(t, l, blobKey, 0, 10); got != "again" {
			t.Errorf("%q", got)
		}
	})
}

func TestUpdatedBlobsKeepTheirBytes(t *testing.T) {
	onBlobs(t, 1<<20, func(t *testing.T, l *LocalBlobs) {
		wantNoError(t, putBlob(l, blobKey, "text"))
		used, _, _ := l.Usage(ctx)
		before, _ := l.Blob(ctx, blobKey)
		update := func(h *BlobHeaders, list *[]Property, c BlobCondition) (Blob, error) {
			return l.UpdateBlob(ctx, blobKey, h, list, c, blobStart.Add(time.Minute))
		}
		b, err := update(nil, &[]Property{{Name: "k", Value: "value"}}, BlobCondition{IfMatch: before.ETag})
		if err != nil || b.ETag == before.ETag || !b.Modified.After(before.Modified) || len(b.Metadata) != 1 {
			t.Errorf("%+v, %v", b, err)
		}
		wantUsed(t, l, used+6)
		if _, err := update(nil, nil, BlobCondition{IfMatch: before.ETag}); !errors.Is(err, ErrConflict) {
			t.Errorf("%v", err)
		}
		if _, err := update(nil, &[]Property{{Name: "k", Value: strings.Repeat("x", 2<<20)}}, always); !errors.Is(err, ErrNoSpace) {
			t.Errorf("%v", err)
		}
		b, err = update(&BlobHeaders{ContentType: "text/plain"}, nil, always)
		if err != nil || b.ContentType != "text/plain" || len(b.Metadata) != 1 || readBlob(t, l, blobKey, 0, 10) != "text" {
			t.Errorf("%+v, %v", b, err)
		}
		wantNoError(t, l.Reset(ctx))
		wantUsed(t, l, 0)
	})
}

func TestListPages(t *testing.T) {
	onBlobs(t, 1<<20, func(t *testing.T, l *LocalBlobs) {
		for _, name := range []string{"a/1", "a/2", "b", "c/1", "c/2/3", "d"} {
			wantNoError(t, putBlob(l, BlobKey{"c", name}, "x"))
		}
		for _, c := range []struct {
			q    BlobQuery
			want []string
		}{
			{BlobQuery{}, []string{"a/1", "a/2", "b", "c/1", "c/2/3", "d"}},
			{BlobQuery{Prefix: "c/"}, []string{"c/1", "c/2/3"}},
			{BlobQuery{Delimiter: "/"}, []string{"a/", "b", "c/", "d"}},
			{BlobQuery{Prefix: "c/", Delimiter: "/"}, []string{"c/1", "c/2/"}},
			{BlobQuery{Prefix: "x"}, nil},
		} {
			for limit := 1; limit <= 7; limit++ {
				var got []string
				for q := (BlobQuery{c.q.Prefix, c.q.Delimiter, "", limit}); ; {
					page, err := l.ListBlobs(ctx, "c", q)
					wantNoError(t, err)
					if n := len(page.Blobs) + len(page.Prefixes); n > limit {
						t.Fatalf("%d names on a page of %d", n, limit)
					}
					for _, b := range page.Blobs {
						got = append(got, b.Name)
					}
					got = append(got, page.Prefixes...)
					if q.After = page.Next; q.After == "" {
						break
					}
				}
				slices.Sort(got)
				if !slices.Equal(got, c.want) {
					t.Errorf("%+v by %d: %q", c.q, limit, got)
				}
			}
		}
	})
}

func TestDiskBlobsAreThereAfterARestart(t *testing.T) {
	dir := t.TempDir()
	l, err := OpenDiskBlobs(dir, 1<<20)
	wantNoError(t, err)
	_, err = l.CreateContainer(ctx, "c", []Property{{Name: "k", Value: "v"}}, blobStart)
	wantNoError(t, err, putBlock(l, blobKey, "\xff1", "one."), putBlock(l, blobKey, "\xff2", "two."), commit(l, blobKey, "\xff2", "\xff1", "\xff2"))
	before, _ := l.Blob(ctx, blobKey)
	used, _, _ := l.Usage(ctx)
	wantNoError(t, putBlock(l, BlobKey{"c", "other"}, "1", "never committed"), l.Close())

	l, err = OpenDiskBlobs(dir, 1<<20)
	wantNoError(t, err)
	after, err := l.Blob(ctx, blobKey)
	if err != nil || fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("%+v, %v; was %+v", after, err, before)
	}
	if got := readBlob(t, l, blobKey, 2, 8); got != "o.one.tw" {
		t.Errorf("%q", got)
	}
	wantUsed(t, l, used)
	wantNoError(t, commit(l, blobKey, "\xff1"), l.Reset(ctx))
	wantUsed(t, l, 0)
	wantNoError(t, l.Close())
	again, err := OpenDiskBlobs(dir, 1<<20)
	wantNoError(t, err)
	wantUsed(t, again, 0)
	wantNoError(t, again.Close())
}

func TestADirectoryOfBlobsHasOneUser(t *testing.T) {
	dir := t.TempDir()
	l, err := OpenDiskBlobs(dir, 1<<20)
	wantNoError(t, err)
	_, err = l.CreateContainer(ctx, "c", nil, blobStart)
	wantNoError(t, err, putBlock(l, blobKey, "1", "a"))
	if _, err := OpenDiskBlobs(dir, 1<<20); err == nil || !strings.Contains(err.Error(), "is used by another emulator") {
		t.Fatalf("a second user: %v", err)
	}
	wantNoError(t, commit(l, blobKey, "1"))
	if got := readBlob(t, l, blobKey, 0, 9); got != "a" {
		t.Errorf("the first user's blob is %q", got)
	}
	wantNoError(t, l.Close(), l.Close())
	l, err = OpenDiskBlobs(dir, 1<<20)
	wantNoError(t, err, l.Close())
}

func TestAResetForgetsBlobsWhoseFilesAreGone(t *testing.T) {
	dir := t.TempDir()
	l, err := OpenDiskBlobs(dir, 1<<20)
	wantNoError(t, err)
	_, err = l.CreateContainer(ctx, "c", nil, blobStart)
	wantNoError(t, err, putBlob(l, blobKey, "a"), os.RemoveAll(dir), l.Reset(ctx))
	wantUsed(t, l, 0)
	wantNoError(t, l.Close())
}

// Whatever is done, the blobs of both engines are those of a model, and the space that is counted is the space that is used.
func TestBlobsFollowAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := NewMemoryBlobs(1 << 30)
		_, err := l.CreateContainer(ctx, "c", nil, blobStart)
		wantNoError(t, err)
		type model struct{ staged, committed map[string]string }
		texts, models := map[string]string{}, map[string]*model{}
		name := rapid.SampledFrom([]string{"a", "b"})
		id := rapid.SampledFrom([]string{"1", "2", "3"})
		of := func(n string) *model {
			if models[n] == nil {
				models[n] = &model{map[string]string{}, map[string]string{}}
			}
			return models[n]
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				n, text := name.Draw(t, "name"), rapid.String().Draw(t, "text")
				wantNoError(t, putBlob(l, BlobKey{"c", n}, text))
				texts[n] = text
				delete(models, n)
			},
			"stage": func(t *rapid.T) {
				n, i, text := name.Draw(t, "name"), id.Draw(t, "id"), rapid.String().Draw(t, "text")
				wantNoError(t, putBlock(l, BlobKey{"c", n}, i, text))
				of(n).staged[i] = text
			},
			"commit": func(t *rapid.T) {
				n, ids := name.Draw(t, "name"), rapid.SliceOfN(id, 0, 4).Draw(t, "ids")
				text, committed, known := "", map[string]string{}, true
				for _, i := range ids {
					part, ok := of(n).staged[i]
					if !ok {
						part, ok = of(n).committed[i]
					}
					known = known && ok
					text, committed[i] = text+part, part
				}
				err := commit(l, BlobKey{"c", n}, ids...)
				if known != (err == nil) {
					t.Fatalf("commit of %q: %v", ids, err)
				}
				if known {
					texts[n], models[n] = text, &model{map[string]string{}, committed}
				}
			},
			"delete": func(t *rapid.T) {
				n := name.Draw(t, "name")
				if _, there := texts[n]; there != (l.DeleteBlob(ctx, BlobKey{"c", n}, always) == nil) {
					t.Fatalf("delete of %s", n)
				} else if there {
					delete(texts, n)
					delete(models, n)
				}
			},
			"": func(t *rapid.T) {
				for n, want := range texts {
					offset := rapid.Int64Range(0, int64(len(want))).Draw(t, "offset")
					length := rapid.Int64Range(0, int64(len(want))-offset).Draw(t, "length")
					if got := readBlob(t, l, BlobKey{"c", n}, offset, length); got != want[offset:offset+length] {
						t.Fatalf("%s from %d: %q, want %q of %q", n, offset, got, want[offset:offset+length], want)
					}
				}
			},
		})
		wantNoError(t, l.Reset(ctx))
		if l.used != 0 {
			t.Fatalf("%d bytes are counted when nothing is there", l.used)
		}
	})
}

func BenchmarkPutBlocks250MB(b *testing.B) {
	const blocks, size = 63, 4 << 20
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(rand.Uint32())
	}
	for name, open := range map[string]func() (*LocalBlobs, error){
		"memory": func() (*LocalBlobs, error) { return NewMemoryBlobs(1 << 30), nil },
		"disk":   func() (*LocalBlobs, error) { return OpenDiskBlobs(b.TempDir(), 1<<30) },
	} {
		b.Run(name, func(b *testing.B) {
			l, err := open()
			wantNoError(b, err)
			defer l.Close()
			_, err = l.CreateContainer(ctx, "c", nil, blobStart)
			wantNoError(b, err)
			b.SetBytes(blocks * size)
			for b.Loop() {
				var list []BlockRef
				for i := range blocks {
					id := fmt.Sprintf("%03d", i)
					wantNoError(b, l.PutBlock(ctx, blobKey, Block{id, size}, bytes.NewReader(body), blobStart))
					list = append(list, BlockRef{ID: id})
				}
				_, err := l.CommitBlocks(ctx, Blob{BlobKey: blobKey}, list, always, blobStart)
				wantNoError(b, err)
			}
		})
	}
}
