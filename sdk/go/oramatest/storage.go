package oramatest

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"strings"
)

// StoragePut implements host.Host.
func (h node) StoragePut(object string) []byte {
	h.changing.Lock()
	defer h.changing.Unlock()
	if why := checkSize("the object", object, objectMaxBytes); why != nil {
		h.failed("storage_put", why)
		return nil
	}
	cid := contentID([]byte(object))
	h.objects[cid] = []byte(object)
	return []byte(cid)
}

// StorageGet implements host.Host.
func (h node) StorageGet(cid string) []byte {
	h.changing.Lock()
	defer h.changing.Unlock()
	if why := checkText("the content id", cid, nameMaxBytes); why != nil {
		h.failed("storage_get", why)
		return nil
	}
	return append([]byte(nil), h.objects[cid]...)
}

// The content id that IPFS gives to a file: one raw block, or a balanced tree of dag-pb nodes over such blocks.
const (
	chunkBytes = 262_144
	linksMax   = 174
	codecRaw   = 0x55
	codecDagPB = 0x70
)

// block is one of the tree.
type block struct {
	// id is the binary content id.
	id []byte
	// fileSize is that of the part of the file below it, treeSize that of all blocks below it and its own.
	fileSize, treeSize uint64
}

func contentID(file []byte) string {
	var level []block
	for at := 0; at == 0 || at < len(file); at += chunkBytes {
		chunk := file[at:min(at+chunkBytes, len(file))]
		level = append(level, block{binaryID(codecRaw, chunk), uint64(len(chunk)), uint64(len(chunk))})
	}
	for len(level) > 1 {
		var above []block
		for at := 0; at < len(level); at += linksMax {
			above = append(above, inner(level[at:min(at+linksMax, len(level))]))
		}
		level = above
	}
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(level[0].id)
	return "b" + strings.ToLower(text)
}

func binaryID(codec byte, data []byte) []byte {
	const version, sha256Code, sha256Bytes = 1, 0x12, 32
	hash := sha256.Sum256(data)
	return append([]byte{version, codec, sha256Code, sha256Bytes}, hash[:]...)
}

// inner is the node over some blocks: protobuf of dag-pb, with UnixFS's description of the file in it.
func inner(children []block) block {
	var node, data []byte
	made := block{}
	data = append(data, 1<<3, 2) // Type: File
	for _, child := range children {
		made.fileSize += child.fileSize
		made.treeSize += child.treeSize
	}
	data = binary.AppendUvarint(append(data, 3<<3), made.fileSize)
	for _, child := range children {
		data = binary.AppendUvarint(append(data, 4<<3), child.fileSize)
		var link []byte
		link = appendBytes(link, 1, child.id)
		link = appendBytes(link, 2, nil) // kubo encodes the empty name
		link = binary.AppendUvarint(append(link, 3<<3), child.treeSize)
		node = appendBytes(node, 2, link)
	}
	node = appendBytes(node, 1, data)
	made.id = binaryID(codecDagPB, node)
	made.treeSize += uint64(len(node))
	return made
}

// appendBytes adds a field of bytes in protobuf.
func appendBytes(message []byte, field byte, value []byte) []byte {
	return append(binary.AppendUvarint(append(message, field<<3|2), uint64(len(value))), value...)
}
