# Sign-in and sign-out.
class SignInsController < ApplicationController
  skip_before_action :verify_signed_in, only: %i[new create]

  def new; end

  def create
    user = User.find_by(name: params[:user])
    return render :new, status: :forbidden unless user&.authenticate(params[:password])

    reset_session # a new session: nobody can have planted it
    session[:user_id] = user.id
    redirect_to "/"
  end

  def destroy
    name = Gateway.session_name(session[:session_id])
    reset_session
    Gateway.announce(type: "session.ended", session_id: name)
    redirect_to "/sign-in"
  end
end
