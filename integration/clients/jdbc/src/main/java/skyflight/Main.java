package skyflight;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.sql.SQLException;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;

/** Reads requests, a JSON object a line, and answers each with one: see clients/spoken.py. */
public final class Main {
  static final Gson JSON = new GsonBuilder().serializeNulls().serializeSpecialFloatingPointValues().create();

  public static void main(String[] arguments) throws Exception {
    // The driver and its logger may print: answers alone go to the real output.
    PrintStream answers = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    System.setOut(System.err);
    BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    Map<Integer, Session> sessions = new HashMap<>();
    for (String line = requests.readLine(); line != null; line = requests.readLine()) {
      JsonObject request = JSON.fromJson(line, JsonObject.class);
      answers.println(JSON.toJson(answer(sessions, request)));
    }
    // What a session left open does not keep the process.
    System.exit(0);
  }

  private static Object answer(Map<Integer, Session> sessions, JsonObject request) {
    int id = request.get("session").getAsInt();
    String what = request.get("do").getAsString();
    try {
      if (what.equals("connect")) {
        sessions.put(id, new Session(text(request, "url")));
        return Map.of();
      }
      Session session = sessions.get(id);
      if (what.equals("close")) {
        sessions.remove(id).close();
        return Map.of();
      }
      return session.answer(what, request);
    } catch (Throwable thrown) {
      return Map.of("error", described(thrown));
    }
  }

  /** A failure as the caller of JDBC meets it: the exception, its state, and all messages of its causes. */
  static Map<String, Object> described(Throwable thrown) {
    Map<String, Object> told = new LinkedHashMap<>();
    told.put("exception", thrown.getClass().getSimpleName());
    told.put("code", thrown instanceof SQLException sql ? sql.getSQLState() : null);
    // The first message alone is what a tool shows.
    told.put("message", String.valueOf(thrown.getMessage()));
    StringBuilder causes = new StringBuilder();
    for (Throwable cause = thrown.getCause(); cause != null; cause = cause.getCause()) {
      causes.append(cause).append('\n');
    }
    told.put("causes", causes.toString());
    return told;
  }

  static String text(JsonObject request, String name) {
    JsonElement value = request.get(name);
    return value == null || value.isJsonNull() ? null : value.getAsString();
  }
}
