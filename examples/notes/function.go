// Command notes is a small REST API and the page that uses it.
package main

import (
	_ "embed"
	"encoding/json"
	"net/http"
	"orama"
	"strconv"
)

//go:embed page.html
var page []byte

const table = "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL)"

// textMaxBytes is the longest note.
const textMaxBytes = 4096

type note struct {
	ID   int64  `json:"id"`
	Text string `json:"text"`
}

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'")
		w.Write(page)
	})
	mux.HandleFunc("GET /api/notes", list)
	mux.HandleFunc("POST /api/notes", add)
	mux.HandleFunc("PUT /api/notes/{id}", change)
	mux.HandleFunc("DELETE /api/notes/{id}", remove)
	orama.ServeHTTP(mux)
}

func list(w http.ResponseWriter, r *http.Request) {
	results, _, err := orama.Transaction(orama.Exec(table), orama.Select("SELECT id, text FROM notes ORDER BY id DESC LIMIT 100"))
	notes := []note{}
	if err == nil {
		err = results[1].Into(&notes)
	}
	answer(w, http.StatusOK, notes, err)
}

func add(w http.ResponseWriter, r *http.Request) {
	text, ok := read(w, r)
	if !ok {
		return
	}
	results, _, err := orama.Transaction(orama.Exec(table), orama.Exec("INSERT INTO notes (text) VALUES (?)", text))
	if err != nil {
		answer(w, 0, nil, err)
		return
	}
	id := results[1].LastInsertID
	// Relative to where the client found this: the function's own path is below /fn/<namespace>/notes.
	w.Header().Set("Location", "notes/"+strconv.FormatInt(id, 10))
	answer(w, http.StatusCreated, note{id, text}, nil)
}

func change(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		fail(w, http.StatusNotFound, "no such note")
		return
	}
	text, ok := read(w, r)
	if !ok {
		return
	}
	result, err := orama.Execute("UPDATE notes SET text = ? WHERE id = ?", text, id)
	if err == nil && result.RowsAffected == 0 {
		fail(w, http.StatusNotFound, "no such note")
		return
	}
	answer(w, http.StatusOK, note{id, text}, err)
}

func remove(w http.ResponseWriter, r *http.Request) {
	result, err := orama.Execute("DELETE FROM notes WHERE id = ?", r.PathValue("id"))
	if err != nil {
		answer(w, 0, nil, err)
		return
	}
	if result.RowsAffected == 0 {
		fail(w, http.StatusNotFound, "no such note")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// read returns the text of a note in the body; after false the request was answered.
func read(w http.ResponseWriter, r *http.Request) (string, bool) {
	var given note
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4*textMaxBytes)).Decode(&given)
	if err != nil || given.Text == "" || len(given.Text) > textMaxBytes {
		fail(w, http.StatusBadRequest, "the body must be {\"text\": \"...\"} with 1 to 4096 bytes")
		return "", false
	}
	return given.Text, true
}

func answer(w http.ResponseWriter, status int, value any, err error) {
	if err != nil {
		orama.LogError(err.Error())
		fail(w, http.StatusInternalServerError, "the notes cannot be reached now")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(value)
}

func fail(w http.ResponseWriter, status int, message string) {
	answer(w, status, map[string]string{"error": message}, nil)
}
