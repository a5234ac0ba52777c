# Answers the gateway: whose are these session cookies? It only reads.
class IdentityController < ActionController::API
  def show
    bearer = "Bearer #{ENV.fetch('NOTES_SESSION_KEY')}"
    return head :unauthorized unless ActiveSupport::SecurityUtils.secure_compare(request.authorization.to_s, bearer)

    cookies = params[:cookies]
    return head :bad_request unless cookies.is_a?(Array) && cookies.size <= 256

    sessions = cookies.map { |cookie| session_of(cookie.to_s) }
    users = User.includes(:memberships).where(id: sessions.pluck("user_id").compact).index_by(&:id)
    render json: { identities: sessions.map { |session| identity(session, users[session["user_id"]]) } }
  end

  private

  # Rails' own cookie jar opens it, with all secrets that Rails accepts. The jar is never written back.
  def session_of(cookie)
    key = Rails.application.config.session_options[:key]
    jar = ActionDispatch::Cookies::CookieJar.build(request, key => CGI.unescape(cookie).scrub)
    jar.encrypted[key] || {}
  end

  def identity(session, user)
    return { code: "none" } unless user
    return { code: "no_organization" } unless user.organization

    membership = user.memberships.find { |m| m.organization == user.organization }
    return { code: "forbidden" } unless membership

    { user_id: user.name, active_organization_id: user.organization, role: membership.role,
      session_id: Gateway.session_name(session["session_id"]), expires_at: 1.hour.from_now.to_i }
  end
end
