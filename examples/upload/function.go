// Command upload takes files of up to 32 MB as they arrive, in pieces that it keeps in the storage, and gives them back.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"orama"
	"strconv"
)

// pieceBytes is what of a file is in memory at once.
const pieceBytes = 1 << 20

const table = "CREATE TABLE IF NOT EXISTS files (sha256 TEXT PRIMARY KEY, type TEXT NOT NULL, size INTEGER NOT NULL, pieces TEXT NOT NULL)"

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{$}", take)
	mux.HandleFunc("GET /{sha256}", give)
	orama.ServeHTTP(mux)
}

func take(w http.ResponseWriter, r *http.Request) {
	hash, size, pieces := sha256.New(), 0, []string{}
	piece := make([]byte, pieceBytes)
	for {
		count, err := io.ReadFull(r.Body, piece)
		if count > 0 {
			hash.Write(piece[:count])
			cid, stored := orama.StoragePut(piece[:count])
			if stored != nil {
				http.Error(w, "a piece was not stored", http.StatusInsufficientStorage)
				return
			}
			pieces, size = append(pieces, cid), size+count
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			http.Error(w, "the upload broke off", http.StatusBadRequest)
			return
		}
	}
	sum := hex.EncodeToString(hash.Sum(nil))
	list, err := json.Marshal(pieces)
	if err == nil {
		_, _, err = orama.Transaction(orama.Exec(table), orama.Exec(
			"INSERT INTO files (sha256, type, size, pieces) VALUES (?, ?, ?, ?) ON CONFLICT (sha256) DO NOTHING",
			sum, r.Header.Get("Content-Type"), size, string(list)))
	}
	if err != nil {
		orama.LogError(err.Error())
		http.Error(w, "the file was not stored", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	json.NewEncoder(w).Encode(map[string]any{"sha256": sum, "size": size, "pieces": len(pieces)})
}

func give(w http.ResponseWriter, r *http.Request) {
	var files []struct {
		Type   string `json:"type"`
		Size   int    `json:"size"`
		Pieces string `json:"pieces"`
	}
	var pieces []string
	err := orama.QueryInto(&files, "SELECT type, size, pieces FROM files WHERE sha256 = ?", r.PathValue("sha256"))
	if err != nil || len(files) == 0 || json.Unmarshal([]byte(files[0].Pieces), &pieces) != nil {
		http.Error(w, "no such file", http.StatusNotFound)
		return
	}
	// What others uploaded must not run in a page of this origin.
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", "attachment")
	w.Header().Set("X-File-Size", strconv.Itoa(files[0].Size))
	for _, cid := range pieces {
		piece, ok := orama.StorageGet(cid)
		if !ok {
			panic("a piece is gone: " + cid)
		}
		if _, err := w.Write(piece); err != nil {
			return
		}
	}
}
